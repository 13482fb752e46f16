//! Deterministic simulation: the agent's durable path (journal, fold, spool, uplink) against a reference
//! collector, on one thread, under a virtual clock, on a disk and a network that fail.
//!
//! Not shipped. The parts are the agent's own, driven step by step: [`journal::Journal::step`],
//! [`folding::Driver::step`], [`uplink::Session`]. A seed decides everything (sizes, speeds, which faults come
//! when, in which order what happens at the same time), so a seed that fails once fails always.
//!
//! ```text
//! plan (from the seed) ─▶ world: devices ─▶ host (journal, fold, spool, session on a SimDisk) ─▶ net ─▶ collector
//!                                           ▲ faults                                             check: P1 to P4
//! ```
#![allow(missing_docs, reason = "what a type's fields are is said where the type is")]
#![allow(clippy::expect_used, reason = "a run ends where it is surprised, and that is a finding")]

pub mod check;
pub mod clock;
pub mod collector;
mod devices;
mod faults;
pub mod host;
pub mod ledger;
mod link;
pub mod net;
pub mod outage;
pub mod plan;
pub mod readings;
pub mod record;
pub mod rng;
pub mod rot;
pub mod run;
pub mod trace;
pub mod world;
