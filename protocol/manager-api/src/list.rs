// SPDX-License-Identifier: Apache-2.0

//! Lists in answers, read up to a limit: an entry takes more memory than the few bytes with which a
//! host can write it. Trusts nobody.

use enarx_contract::{Doors, MAX_DOORS};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// Reads a list and keeps its first `N` entries. Further entries only have to be JSON.
pub(crate) fn first<'de, D, T, const N: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct First<T, const N: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for First<T, N> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let mut kept = Vec::new();
            while kept.len() < N {
                match entries.next_element()? {
                    Some(entry) => kept.push(entry),
                    None => return Ok(kept),
                }
            }
            while entries.next_element::<IgnoredAny>()?.is_some() {}
            Ok(kept)
        }
    }

    deserializer.deserialize_seq(First::<T, N>(PhantomData))
}

/// Reads doors, of each kind the first [`MAX_DOORS`].
pub(crate) fn doors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Doors, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        deny_unknown_fields,
        bound = "L: Deserialize<'de>, C: Deserialize<'de>, R: Deserialize<'de>, P: Deserialize<'de>"
    )]
    struct BoundedDoors<L, C, R, P> {
        #[serde(deserialize_with = "first::<_, _, MAX_DOORS>")]
        listen: Vec<L>,
        #[serde(deserialize_with = "first::<_, _, MAX_DOORS>")]
        connect: Vec<C>,
        #[serde(deserialize_with = "first::<_, _, MAX_DOORS>")]
        resolve: Vec<R>,
        #[serde(deserialize_with = "first::<_, _, MAX_DOORS>")]
        directories: Vec<P>,
    }

    let BoundedDoors {
        listen,
        connect,
        resolve,
        directories,
    } = BoundedDoors::deserialize(deserializer)?;
    Ok(Doors {
        listen,
        connect,
        resolve,
        directories,
    })
}
