// SPDX-License-Identifier: Apache-2.0

//! The places of connections. A peer that has shown no token is a stranger: strangers together have a share of all
//! places, and those from one address half of that. A newcomer always finds a place, because the stranger that has
//! waited longest is removed; so strangers cannot block anyone who shows a token soon. From then on the place is safe.

use crate::refusal::Refusal;
use crate::tokens::Owner;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Places of connections that have shown a token.
const KNOWN: usize = 768;
/// Places of strangers.
const STRANGERS: usize = 256;
/// Places of the strangers of one address: half of all. Fifty deployments that begin together on a machine of two
/// processors are strangers for a second, each until its turn to show a token comes.
const STRANGERS_PER_ADDRESS: usize = 128;
/// Time for a stranger to show a token. TLS and the head of a request take three round trips.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The number that identifies a connection.
type Number = u64;

/// The network that counts as one address: a host has all of an IPv6 /64 (RFC 4291 section 2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(prefix.into())
        }
        IpAddr::V4(address) => IpAddr::V4(address),
    }
}

/// The connections by whether they have shown a token.
#[derive(Default)]
struct Taken {
    next: Number,
    /// Strangers, those who came first in front.
    strangers: HashMap<IpAddr, VecDeque<(Number, Arc<Notify>)>>,
    known: HashMap<Owner, usize>,
}

impl Taken {
    fn strangers(&self) -> usize {
        self.strangers.values().map(VecDeque::len).sum()
    }

    /// Sends away the stranger who has waited longest: of `network` if that has its share, or else of the one with most.
    fn make_room(&mut self, network: IpAddr) {
        let of_network = self.strangers.get(&network).map_or(0, VecDeque::len);
        let from = if of_network >= STRANGERS_PER_ADDRESS {
            Some(network)
        } else if self.strangers() >= STRANGERS {
            // Of those with equally many the one whose oldest came first: the newest would be the newcomer itself.
            let oldest = |of: &VecDeque<(Number, _)>| of.front().map(|(number, _)| *number);
            let rank = |of: &VecDeque<_>| (of.len(), Reverse(oldest(of)));
            let most = self.strangers.iter().max_by_key(|(_, of)| rank(of));
            most.map(|(network, _)| *network)
        } else {
            None
        };
        if let Some(from) = from
            && let Some(queue) = self.strangers.get_mut(&from)
            && let Some((_, leave)) = queue.pop_front()
        {
            leave.notify_one();
        }
    }

    /// Takes a stranger out; true if it was there.
    fn remove(&mut self, network: IpAddr, number: Number) -> bool {
        let Some(queue) = self.strangers.get_mut(&network) else {
            return false;
        };
        let before = queue.len();
        queue.retain(|(other, _)| *other != number);
        let found = queue.len() < before;
        if queue.is_empty() {
            self.strangers.remove(&network);
        }
        found
    }
}

/// All places.
pub(crate) struct Places {
    taken: Mutex<Taken>,
    /// Places of one token.
    of_token: usize,
}

impl Places {
    /// All places; `of_token` of them are for one token at most.
    pub(crate) fn new(of_token: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            of_token,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a stranger from this address.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Arc<Place> {
        let network = network(address);
        let mut taken = self.taken();
        taken.make_room(network);
        taken.next += 1;
        let number = taken.next;
        let leave = Arc::new(Notify::new());
        let queue = taken.strangers.entry(network).or_default();
        queue.push_back((number, leave.clone()));
        Arc::new(Place {
            places: self.clone(),
            network,
            number,
            leave,
            owner: Mutex::new(None),
        })
    }
}

/// The place of one connection, until this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    network: IpAddr,
    number: Number,
    /// It has to give up its place.
    leave: Arc<Notify>,
    /// The first token that was shown.
    owner: Mutex<Option<Owner>>,
}

impl Place {
    fn owner(&self) -> MutexGuard<'_, Option<Owner>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token was shown: from now on the place is safe.
    ///
    /// # Errors
    /// [`Refusal::Requests`] when the token has as many connections as it may have; [`Refusal::Capacity`].
    pub(crate) fn show(&self, owner: Owner) -> Result<(), Refusal> {
        let mut known_as = self.owner();
        if known_as.is_some() {
            return Ok(());
        }
        let mut taken = self.places.taken();
        let of_token = taken.known.get(&owner).copied().unwrap_or(0);
        if of_token >= self.places.of_token {
            return Err(Refusal::Requests {
                limit: u32::try_from(self.places.of_token).unwrap_or(u32::MAX),
            });
        }
        if taken.known.values().sum::<usize>() >= KNOWN {
            return Err(Refusal::Capacity);
        }
        taken.remove(self.network, self.number);
        taken.known.insert(owner, of_token + 1);
        *known_as = Some(owner);
        Ok(())
    }

    /// Waits until the connection has to end, because its peer is a stranger for too long, or in the way.
    pub(crate) async fn over(&self) {
        tokio::select! {
            () = self.leave.notified() => {}
            () = sleep(TOKEN_TIMEOUT) => {}
        }
        if self.owner().is_some() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let owner = *self.owner();
        let mut taken = self.places.taken();
        match owner {
            Some(owner) => {
                if let Some(count) = taken.known.get_mut(&owner) {
                    *count -= 1;
                    if *count == 0 {
                        taken.known.remove(&owner);
                    }
                }
            }
            None => {
                taken.remove(self.network, self.number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_paused as run;
    use enarx_contract::canonical::Hex;
    use tokio::time::{Instant, timeout};

    fn address(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    /// True if the connection has to end now.
    async fn is_over(place: &Place) -> bool {
        timeout(Duration::from_millis(1), place.over())
            .await
            .is_ok()
    }

    fn counts(places: &Places) -> (usize, usize) {
        let taken = places.taken();
        (taken.strangers(), taken.known.values().sum())
    }

    #[test]
    fn the_oldest_stranger_of_an_address_gives_way() {
        run(async {
            let places = Places::new(64);
            let many: Vec<_> = (0..STRANGERS_PER_ADDRESS)
                .map(|_| places.take(address(1)))
                .collect();
            let other = places.take(address(2));
            assert!(!is_over(&many[0]).await);
            let newcomer = places.take(address(1));
            assert!(is_over(&many[0]).await);
            for place in [&many[1], &other, &newcomer] {
                assert!(!is_over(place).await);
            }
            assert_eq!(counts(&places), (STRANGERS_PER_ADDRESS + 1, 0));
            drop((many, other, newcomer));
            assert_eq!(counts(&places), (0, 0));
            assert!(places.taken().strangers.is_empty());
        });
    }

    #[test]
    fn strangers_of_the_largest_network_give_way_first() {
        run(async {
            let places = Places::new(64);
            let large: Vec<_> = (0..30).map(|_| places.take(address(1))).collect();
            let small: Vec<_> = (0..STRANGERS - 30)
                .map(|number| places.take(address(u8::try_from(2 + number % 100).unwrap())))
                .collect();
            let newcomer = places.take(address(200));
            assert!(is_over(&large[0]).await);
            assert!(!is_over(&small[0]).await && !is_over(&newcomer).await);
            assert_eq!(counts(&places), (STRANGERS, 0));
        });
    }

    #[test]
    fn the_oldest_stranger_of_many_networks_gives_way() {
        run(async {
            let places = Places::new(64);
            let from = |number: u16| {
                let [high, low] = number.to_be_bytes();
                places.take(IpAddr::from([198, 51, high, low]))
            };
            let all: Vec<_> = (0..256).map(from).collect();
            let newcomers: Vec<_> = (256..300).map(from).collect();
            for place in &all[..newcomers.len()] {
                assert!(is_over(place).await);
            }
            for place in all[newcomers.len()..].iter().chain(&newcomers) {
                assert!(!is_over(place).await);
            }
        });
    }

    #[test]
    fn a_client_with_a_token_stays() {
        run(async {
            let places = Places::new(2);
            let place = places.take(address(1));
            place.show(Hex([1; 32])).unwrap();
            place.show(Hex([1; 32])).unwrap();
            assert_eq!(counts(&places), (0, 1));
            let strangers: Vec<_> = (0..100).map(|_| places.take(address(1))).collect();
            assert!(!is_over(&place).await);
            let second = places.take(address(3));
            second.show(Hex([1; 32])).unwrap();
            let third = places.take(address(3));
            let refused = third.show(Hex([1; 32])).unwrap_err();
            assert_eq!(refused.code(), "limit.connections");
            third.show(Hex([2; 32])).unwrap();
            drop(second);
            let fourth = places.take(address(3));
            fourth.show(Hex([1; 32])).unwrap();
            drop((place, strangers, third, fourth));
            assert_eq!(counts(&places), (0, 0));
            assert!(places.taken().known.is_empty());
        });
    }

    #[test]
    fn strangers_have_little_time() {
        run(async {
            let places = Places::new(1);
            let place = places.take(address(1));
            let start = Instant::now();
            place.over().await;
            assert_eq!(start.elapsed(), TOKEN_TIMEOUT);
            let place = places.take(address(1));
            place.show(Hex([1; 32])).unwrap();
            let long = timeout(Duration::from_hours(1), place.over()).await;
            assert!(long.is_err());
        });
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let same = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| network(text.parse().unwrap()));
            a == b
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
