//! The hello of a probe, which is what all hellos have in common: who we are, and what our spool is called.

use spool::Spool;
use wire::v1;

use crate::{Host, Identity, WIRE};

/// A hello that asks for nothing but a greeting: is there a collector at the other end?
pub(crate) fn probing_hello(identity: &Identity, spool: &Spool, host: &dyn Host) -> v1::Hello {
    let usage = spool.usage();
    v1::Hello {
        wire: WIRE,
        agent: identity.agent.clone(),
        version: identity.version.clone(),
        epoch: usage.epoch.map_or(Vec::new(), |epoch| epoch.0.to_vec()),
        next_seq: usage.next_seq,
        unacked: Vec::new(),
        boot_id: identity.boot.to_vec(),
        wall_ns: host.wall(),
        mono_ns: host.mono(),
        labels: identity.labels.iter().cloned().collect(),
        probe: true,
        config: None,
        requests: false,
    }
}
