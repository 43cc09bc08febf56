//! One of several parts of a list of episodes, to ingest or to evaluate.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Part `index` of `count`, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Which part, from 0.
    pub index: u32,
    /// How many parts there are.
    pub count: u32,
}

impl Shard {
    /// Whether an episode belongs to this part: episodes are dealt out like cards, so that every part
    /// has its share of any stretch of the list.
    pub fn holds(self, episode: u64) -> bool {
        episode % u64::from(self.count) == u64::from(self.index)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            Some(Self {
                index: index.parse().ok()?,
                count: count.parse().ok()?,
            })
        });
        match parts {
            Some(shard) if shard.index < shard.count => Ok(shard),
            _ => Err("expected `i/n` with i from 0 to n - 1, e.g. `0/4`".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_divide_the_list_without_gap_or_overlap() {
        for count in 1..=7 {
            for episode in 0..50 {
                let holders = (0..count).filter(|&index| Shard { index, count }.holds(episode));
                assert_eq!(holders.count(), 1);
            }
        }
    }

    #[test]
    fn shards_are_counted_from_zero() {
        assert_eq!("0/1".parse(), Ok(Shard { index: 0, count: 1 }));
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, count: 4 }));
        assert_eq!("2/4".parse::<Shard>().unwrap().to_string(), "2/4");
        for text in ["4/4", "5/4", "1", "a/b", "0/0", "-1/4"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
