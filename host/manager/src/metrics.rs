// SPDX-License-Identifier: Apache-2.0

//! Figures of the manager, in the text format of OpenMetrics. Labels are names of this program, never words of a tenant or
//! of a Keep.

use enarx_manager_api::code;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One label.
type Label = [(&'static str, &'static str); 1];

/// All figures.
pub(crate) struct Metrics {
    registry: Registry,
    /// Keeps by state.
    keeps: Family<Label, Gauge>,
    launches: Counter,
    claims: Family<Label, Counter>,
    ends: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    relays: Gauge,
    relay_bytes: Family<Label, Counter>,
    connections: Gauge,
}

/// Reasons of ends that are labels of their own.
const ENDS: [&str; 12] = [
    code::end::START,
    code::end::LAUNCH_TIMEOUT,
    code::end::PROTOCOL,
    code::end::DIED,
    code::end::OVERDUE,
    code::end::DELETED,
    code::end::SHUTDOWN,
    code::end::MANAGER_LOST,
    code::end::REPLACED,
    code::end::GAVE_WAY,
    code::end::UNUSED,
    code::end::CLAIM_LOST,
];

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("enarx_manager");
        let metrics = Self {
            keeps: Family::default(),
            launches: Counter::default(),
            claims: Family::default(),
            ends: Family::default(),
            refusals: Family::default(),
            relays: Gauge::default(),
            relay_bytes: Family::default(),
            connections: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "keeps",
            "Keeps by state; of those that have ended the ones that are not recorded yet",
            metrics.keeps.clone(),
        );
        registry.register("launches", "Keeps launched", metrics.launches.clone());
        registry.register(
            "claims",
            "Keeps given to tenants: launched for them, or ready before",
            metrics.claims.clone(),
        );
        registry.register("ends", "Ends of Keeps by reason", metrics.ends.clone());
        registry.register("refusals", "Refusals by code", metrics.refusals.clone());
        registry.register("sessions", "Sessions passed on", metrics.relays.clone());
        registry.register(
            "session_bytes",
            "Bytes of sessions by direction",
            metrics.relay_bytes.clone(),
        );
        registry.register(
            "connections",
            "Connections of clients",
            metrics.connections.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }

    pub(crate) fn launched(&self) {
        self.launches.inc();
    }

    /// Counts a Keep that was given to a tenant: `warm` if it ran before.
    pub(crate) fn claimed(&self, kind: &'static str) {
        self.claims.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts the end of a Keep. Words of its own are one label.
    pub(crate) fn ended(&self, reason: &str) {
        let own = ENDS.into_iter().find(|name| *name == reason);
        let reason = own.unwrap_or("keep");
        self.ends.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn refused(&self, code: &'static str) {
        self.refusals.get_or_create(&[("code", code)]).inc();
    }

    pub(crate) fn set_keeps(&self, state: &'static str, number: usize) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.keeps.get_or_create(&[("state", state)]).set(number);
    }

    /// Counts a session until the result is dropped.
    pub(crate) fn session(&self) -> Counted {
        Counted::new(&self.relays)
    }

    /// Counts a connection until the result is dropped.
    pub(crate) fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// The counter of bytes in a direction.
    pub(crate) fn bytes(&self, direction: &'static str) -> Counter {
        self.relay_bytes
            .get_or_create(&[("direction", direction)])
            .clone()
    }

    /// All figures as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// One unit of a gauge.
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
