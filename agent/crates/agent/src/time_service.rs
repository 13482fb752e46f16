//! Whether a time service keeps this host's clock, by the kernel's word: the spool's witness for what is too old.

use std::sync::Arc;
use std::time::Duration;

use inputs::Clock;
use spool::Spool;
use telemetry::Stamp;
use tokio_util::sync::CancellationToken;

/// How often the kernel is asked. What it said goes on meanwhile, by the time since boot.
const EVERY: Duration = Duration::from_secs(30);

/// What the kernel says of its clock (`man 2 adjtimex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its own word: a time service keeps it. Whoever sets it by hand takes that back, until the service says so again.
    pub synchronized: bool,
    /// Its bound on the error, in microseconds.
    pub max_error_us: i64,
    /// What it said at that moment, nanoseconds since the epoch.
    pub wall: i64,
}

/// Tells the spool what time it is as long as a time service keeps the clock, until `done`.
pub async fn witness(spool: Spool, clock: Arc<dyn Clock>, done: CancellationToken) {
    loop {
        if let Some(Kernel { synchronized: true, wall, .. }) = kernel() {
            spool.witness(Stamp { wall, mono: clock.now().mono });
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = done.cancelled() => return,
        }
    }
}

/// Asks the kernel; `None` where it may not be asked.
#[allow(unsafe_code, reason = "no safe wrapper among our dependencies has adjtimex")]
pub fn kernel() -> Option<Kernel> {
    // SAFETY: `timex` is a plain C struct for which zeros are valid, and modes = 0 only reads. The kernel writes within
    // the struct, whose layout is libc's for this target.
    let (state, time) = unsafe {
        let mut time: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&mut time), time)
    };
    // A container may forbid the call.
    (state >= 0).then(|| Kernel {
        synchronized: state != libc::TIME_ERROR && time.status & libc::STA_UNSYNC == 0,
        // Its width differs between targets.
        #[allow(clippy::useless_conversion, reason = "i32 on 32-bit targets")]
        max_error_us: i64::from(time.maxerror),
        wall: wall(&time),
    })
}

/// Its time in nanoseconds: the second field is in microseconds unless it says otherwise.
#[allow(clippy::useless_conversion, reason = "their widths differ between targets")]
fn wall(time: &libc::timex) -> i64 {
    let fraction = i64::from(time.time.tv_usec);
    let nanos = if time.status & libc::STA_NANO == 0 { fraction * 1_000 } else { fraction };
    i64::from(time.time.tv_sec).saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_can_be_asked() {
        // In a container it may refuse; what it says must make sense.
        let before = inputs::SystemClock.now().wall;
        let Some(kernel) = kernel() else { return };
        let after = inputs::SystemClock.now().wall;
        assert!(kernel.max_error_us >= 0);
        // Somebody may set the clock meanwhile, but nobody by years.
        let year = 365 * 86_400_000_000_000;
        assert!((before - year..after + year).contains(&kernel.wall), "{kernel:?}");
    }
}
