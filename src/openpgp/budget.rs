//! How much work one blob may cause, counted while it is read.
//!
//! A few kilobytes can say a lot: millions of tiny packets, compressed data in compressed data, a
//! container of nothing that has no end. So everything that comes out of a blob is paid for from
//! one budget: packets of every kind and in every layer, bytes that are read and thrown away, bytes
//! of packets that are kept, layers of compression. The rest is paid for in processor time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::limits::{Limits, Stop};

/// Expansion that is always allowed, in bytes, and as a multiple of the blob's length.
const EXPANSION: (u64, u64) = (64 << 20, 100);
/// Packets before the container: session keys, markers, padding.
const OUTSIDE: usize = 4096;
/// Packets in the container, whatever they are and in how many layers.
const INSIDE: usize = 1024;
/// Bytes of session key packets and signatures, which are kept until the end. In memory a byte may
/// take a hundred.
const KEPT: u64 = 512 << 10;
/// Layers of compressed data, without those that only say to be compressed.
const LAYERS: usize = 4;
/// Bytes of compressed data in compressed data: unpacking them costs time even if nothing comes
/// out.
const INNER_LAYER: u64 = 16 << 20;
/// Processor time besides that of each MiB.
const TIME: Duration = Duration::from_secs(5);
/// Processor time for each MiB, on the slowest machine.
const TIME_FOR_MIB: Duration = Duration::from_secs(1);

/// The rest of it.
pub(super) struct Budget<'a> {
    limits: &'a Limits,
    /// Bytes that may come out of the container.
    most: u64,
    length: u64,
    spent: u64,
    outside: usize,
    inside: usize,
    kept: u64,
    layers: usize,
    began: Duration,
}

impl<'a> Budget<'a> {
    /// The budget of a blob of `length` bytes.
    pub fn new(limits: &'a Limits, length: u64) -> Self {
        let expansion = EXPANSION.0.max(EXPANSION.1.saturating_mul(length));
        Budget {
            limits,
            most: limits.max_content.min(expansion),
            length,
            spent: 0,
            outside: 0,
            inside: 0,
            kept: 0,
            layers: 0,
            began: used(),
        }
    }

    /// Pays for a packet before the container.
    pub fn packet_outside(&mut self) -> Result<(), Stop> {
        self.outside += 1;
        match self.outside > OUTSIDE {
            true => Err(Stop::NotMine),
            false => self.time(),
        }
    }

    /// Pays for a packet in the container.
    pub fn packet_inside(&mut self) -> Result<(), Stop> {
        self.inside += 1;
        match self.inside > INSIDE {
            true => Err(Stop::TooLarge),
            false => self.time(),
        }
    }

    /// Pays for the body of a packet that is kept; without a length it is as long as it likes.
    pub fn keep(&mut self, length: Option<u32>) -> Result<(), Stop> {
        self.kept = self.kept.saturating_add(length.map_or(KEPT, u64::from));
        match self.kept > KEPT {
            true => Err(Stop::TooLarge),
            false => Ok(()),
        }
    }

    /// Pays for compressed data of that length, if it has one.
    pub fn layer(&mut self, length: Option<u32>) -> Result<(), Stop> {
        self.layers += 1;
        let outermost = self.layers == 1;
        let bounded = length.is_some_and(|length| u64::from(length) <= INNER_LAYER);
        match self.layers > LAYERS || !(outermost || bounded) {
            true => Err(Stop::TooLarge),
            false => Ok(()),
        }
    }

    /// Pays for bytes that come out of the container.
    pub fn bytes(&mut self, count: usize) -> Result<(), Stop> {
        self.spent += count as u64;
        match self.spent > self.most {
            true => Err(Stop::TooLarge),
            false => self.time(),
        }
    }

    /// Checks the time, and whether the work is to be given up.
    pub fn time(&self) -> Result<(), Stop> {
        let stop = self.limits.stop.as_ref();
        if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(Stop::GivenUp);
        }
        let mib = (self.length.saturating_add(self.spent) >> 20).min(u64::from(u32::MAX));
        let enough = TIME.saturating_add(TIME_FOR_MIB.saturating_mul(mib as u32));
        match used().saturating_sub(self.began) > enough {
            true => Err(Stop::TooLarge),
            false => Ok(()),
        }
    }
}

/// Processor time of the calling thread.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
