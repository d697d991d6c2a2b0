//! The API server's clock beside our own. Leases, deadlines and verdicts compare instants of several
//! processes, so a process whose clock is wrong may not work at all.

use countersign_integrations::kubernetes::KubeError;
use jiff::{SignedDuration, Timestamp};

use crate::executor::Executor;
use crate::health::Part;
use crate::timing::SKEW;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct ApiTime {
    /// The `Date` header: whole seconds.
    pub server: Timestamp,
    /// Our own clock when the header arrived.
    pub read_at: Timestamp,
}

impl ApiTime {
    /// By how much our clock is ahead. Negative when it is behind.
    pub fn ahead(&self) -> SignedDuration {
        self.read_at.duration_since(self.server)
    }

    /// A sentence when the clocks differ too much.
    pub fn skew(&self) -> Option<String> {
        let skew = self.ahead().abs();
        (skew > SKEW).then(|| {
            format!(
                "this clock and the API server's differ by {} s: correct one",
                skew.as_secs()
            )
        })
    }
}

impl Executor {
    /// Reads the API server's clock. While the two differ, nothing is claimed.
    pub async fn api_time(&self) -> Result<ApiTime, KubeError> {
        let server = self.reader.server_date().await?;
        let time = ApiTime {
            server,
            read_at: self.clock.now(),
        };
        self.status.set(Part::Clock, time.skew());
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_pod::at;

    #[test]
    fn five_seconds_either_way_are_borne() {
        let skew = |read_at: &str| {
            ApiTime {
                server: at("10:00"),
                read_at: at(read_at),
            }
            .skew()
        };
        for near in ["09:55", "10:00", "10:05"] {
            assert_eq!(skew(near), None);
        }
        for far in ["09:54", "10:06", "11:00"] {
            assert!(skew(far).unwrap().contains("differ by"));
        }
    }
}
