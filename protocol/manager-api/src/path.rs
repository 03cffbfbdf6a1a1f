// SPDX-License-Identifier: Apache-2.0

//! Paths of the interface. Words in braces are parameters; a function fills in each.

use enarx_contract::canonical::Hex;

/// `GET`: [`crate::Offer`].
pub const OFFER: &str = "/v1/offer";
/// `GET`: [`crate::Collateral`], with an `ETag`. The simulated platform's too, by the chip id and TCB version of its
/// reports.
pub const COLLATERAL: &str = "/v1/collateral/{chip}/{tcb}";
/// `POST` [`crate::NewKeep`]: [`crate::KeepAnswer`]. `GET`: [`crate::KeepList`].
pub const KEEPS: &str = "/v1/keeps";
/// `GET`: [`crate::KeepInfo`]; with `?wait=STATE` once that state or a later one is reached, or after
/// [`crate::limit::WAIT_SECONDS`]. `DELETE`, with `?grace=SECONDS`: 202 and [`crate::KeepInfo`], any number of times.
pub const KEEP: &str = "/v1/keeps/{id}";
/// `GET` with `Upgrade:` [`crate::PROTOCOL`]: 101, then the bytes of the attested session.
pub const SESSION: &str = "/v1/keeps/{id}/session";
/// `GET`: the last log lines of the Keep process, as text; never output of the application.
pub const LOG: &str = "/v1/keeps/{id}/log";
/// `GET`, without a token: 200 while the manager runs.
pub const HEALTHZ: &str = "/healthz";
/// `GET`, without a token: 200 while the manager takes contracts.
pub const READYZ: &str = "/readyz";
/// `GET`, with the token named [`FIGURES_TOKEN`]: metrics of all tenants together, in the OpenMetrics text format.
pub const METRICS: &str = "/metrics";

/// Name of the token with which the host's owner reads [`METRICS`].
pub const FIGURES_TOKEN: &str = "metrics";
/// `GET`, without a token: the OpenAPI document of this interface.
pub const OPENAPI: &str = "/openapi.json";

/// [`COLLATERAL`] of a chip at a TCB version.
#[must_use]
pub fn collateral(chip: &Hex<64>, tcb: &Hex<8>) -> String {
    format!("/v1/collateral/{chip}/{tcb}")
}

/// [`KEEP`] of this name.
#[must_use]
pub fn keep(id: &Hex<16>) -> String {
    format!("{KEEPS}/{id}")
}

/// [`KEEP`] of this name, answered once `state` or a later one is reached.
#[must_use]
pub fn keep_wait(id: &Hex<16>, state: crate::KeepState) -> String {
    format!("{KEEPS}/{id}?wait={}", state.name())
}

/// [`KEEP`] of this name, to be ended after `grace` seconds.
#[must_use]
pub fn keep_delete(id: &Hex<16>, grace: u32) -> String {
    format!("{KEEPS}/{id}?grace={grace}")
}

/// [`SESSION`] of this Keep.
#[must_use]
pub fn session(id: &Hex<16>) -> String {
    format!("{KEEPS}/{id}/session")
}

/// [`LOG`] of this Keep.
#[must_use]
pub fn log(id: &Hex<16>) -> String {
    format!("{KEEPS}/{id}/log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_fill_in_the_parameters() {
        let (id, chip, tcb) = (Hex([1; 16]), Hex([2; 64]), Hex([3; 8]));
        let filled = |path: &str| {
            path.replace("{id}", &id.to_string())
                .replace("{chip}", &chip.to_string())
                .replace("{tcb}", &tcb.to_string())
        };
        assert_eq!(keep(&id), filled(KEEP));
        assert_eq!(session(&id), filled(SESSION));
        assert_eq!(log(&id), filled(LOG));
        assert_eq!(collateral(&chip, &tcb), filled(COLLATERAL));
        let wait = keep_wait(&id, crate::KeepState::Ready);
        assert_eq!(wait, format!("{}?wait=ready", filled(KEEP)));
        assert_eq!(keep_delete(&id, 7), format!("{}?grace=7", filled(KEEP)));
    }
}
