//! How much one address may ask for: a bucket of tokens that fills with time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are remembered at most.
const MOST_ADDRESSES: usize = 10_000;

/// How many tokens a bucket holds and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests at once.
    pub burst: f64,
    /// Requests per second in the long run.
    pub per_second: f64,
}

/// Buckets by address.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Option<Rate>,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// A limiter; `None` lets everything through.
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self {
            rate,
            buckets: Mutex::default(),
        }
    }

    /// Takes a token for `address`.
    ///
    /// # Errors
    /// How long to wait, where there is none.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if buckets.len() >= MOST_ADDRESSES && !buckets.contains_key(&address) {
            make_room(&mut buckets, rate, now);
        }
        let bucket = buckets.entry(address).or_insert(Bucket {
            tokens: rate.burst,
            at: now,
        });
        bucket.tokens = bucket.filled(rate, now);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - bucket.tokens) / rate.per_second.max(1e-6);
        Err(Duration::from_secs_f64(missing.min(86_400.0)))
    }
}

impl Bucket {
    fn filled(&self, rate: Rate, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + seconds * rate.per_second).min(rate.burst)
    }
}

/// Forgets full buckets, which say nothing; if all have been used lately, the fullest half.
fn make_room(buckets: &mut HashMap<IpAddr, Bucket>, rate: Rate, now: Instant) {
    buckets.retain(|_, bucket| bucket.filled(rate, now) < rate.burst);
    if buckets.len() < MOST_ADDRESSES {
        return;
    }
    let mut filled: Vec<f64> = buckets
        .values()
        .map(|bucket| bucket.filled(rate, now))
        .collect();
    filled.sort_by(f64::total_cmp);
    let middle = filled[filled.len() / 2];
    buckets.retain(|_, bucket| bucket.filled(rate, now) < middle);
}

/// One household has one IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3.0,
        per_second: 0.5,
    };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_request_per_interval() {
        let (limiter, start) = (Limiter::new(Some(RATE)), Instant::now());
        let one = address("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(limiter.take(one, start), Ok(()));
        }
        assert_eq!(limiter.take(one, start), Err(Duration::from_secs(2)));
        assert!(
            limiter.take(address("192.0.2.2"), start).is_ok(),
            "another address"
        );
        assert!(
            limiter
                .take(one, start + Duration::from_millis(2_001))
                .is_ok()
        );
        assert!(
            limiter
                .take(one, start + Duration::from_millis(2_002))
                .is_err()
        );
    }

    #[test]
    fn the_addresses_of_one_network_share_a_bucket() {
        let (limiter, now) = (Limiter::new(Some(RATE)), Instant::now());
        for host in 1..=3 {
            assert!(
                limiter
                    .take(address(&format!("2001:db8::{host}")), now)
                    .is_ok()
            );
        }
        assert!(limiter.take(address("2001:db8::ffff"), now).is_err());
        assert!(limiter.take(address("2001:db8:0:1::1"), now).is_ok());
        for _ in 0..3 {
            assert!(limiter.take(address("::ffff:192.0.2.9"), now).is_ok());
        }
        assert!(limiter.take(address("192.0.2.9"), now).is_err());
    }

    #[test]
    fn the_table_does_not_grow_without_end_and_a_spender_is_not_forgotten() {
        let (limiter, now) = (Limiter::new(Some(RATE)), Instant::now());
        let spender = address("198.51.100.1");
        while limiter.take(spender, now).is_ok() {}
        for k in 0..3 * MOST_ADDRESSES as u32 {
            let _ = limiter.take(IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + k)), now);
        }
        assert!(limiter.buckets.lock().unwrap().len() <= MOST_ADDRESSES);
        assert!(limiter.take(spender, now).is_err());
    }

    #[test]
    fn without_a_rate_everything_is_let_through() {
        let (limiter, now) = (Limiter::new(None), Instant::now());
        assert!((0..10_000).all(|_| limiter.take(address("192.0.2.1"), now).is_ok()));
    }
}
