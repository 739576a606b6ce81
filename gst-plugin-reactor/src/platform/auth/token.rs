// SPDX-License-Identifier: MIT

//! A token and its age, by the claims in it (RFC 7519). Pure: the time is an
//! argument; signatures are never verified, which is the server's task.

use std::time::{Duration, Instant, SystemTime};

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;

use crate::platform::secret::Secret;

/// The lifetime that the platform promises, for a token without claims: 6 hours.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// The least time before its end at which a token is renewed.
const RENEWAL_MARGIN: Duration = Duration::from_secs(5 * 60);

/// The time by both clocks: the monotonic one stands still while a machine
/// sleeps, the other may be set.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    pub steady: Instant,
    pub wall: SystemTime,
}

impl ClockReading {
    pub fn now() -> Self {
        Self {
            steady: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The time since an earlier reading, by the clock that says more.
    pub(super) fn since(&self, then: Self) -> Duration {
        let steady = self.steady.saturating_duration_since(then.steady);
        let wall = self.wall.duration_since(then.wall).unwrap_or_default();
        steady.max(wall)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenAge {
    Fresh,
    /// Still valid, and to be replaced.
    RenewalDue,
    Expired,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) secret: Secret,
    since: ClockReading,
    lifetime: Duration,
}

impl Token {
    pub(super) fn new(secret: Secret, now: ClockReading) -> Self {
        let lifetime = lifetime(secret.expose(), now.wall).unwrap_or(DEFAULT_LIFETIME);
        Self {
            secret,
            since: now,
            lifetime,
        }
    }

    pub(super) fn age(&self, now: ClockReading) -> TokenAge {
        match now.since(self.since) {
            age if age >= self.lifetime => TokenAge::Expired,
            age if age >= renewal_age(self.lifetime) => TokenAge::RenewalDue,
            _ => TokenAge::Fresh,
        }
    }
}

/// The age at which to renew: four fifths of the lifetime, or five minutes before
/// its end if that is earlier, but never in its first half.
fn renewal_age(life: Duration) -> Duration {
    let early = (life / 5 * 4).min(life.saturating_sub(RENEWAL_MARGIN));
    early.max(life / 2)
}

/// The claims of a token that matter here (RFC 7519, 4.1), in seconds since 1970.
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    iat: Option<f64>,
}

/// The lifetime of a token that has just been received, if its claims tell.
///
/// The clock here may be wrong. The time of issue in the token is the better
/// measure; where they disagree, the shorter lifetime counts.
fn lifetime(token: &str, now: SystemTime) -> Option<Duration> {
    let Claims { exp, iat } = claims(token)?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok();
    let starts = [iat, now.map(|now| now.as_secs_f64())];
    let lives = starts.into_iter().flatten().map(|start| exp - start);
    lives
        .filter(|life| *life > 0.0)
        .filter_map(|life| Duration::try_from_secs_f64(life).ok())
        .min()
}

/// Until when a token is good, in seconds since 1970, if its claims tell.
pub(super) fn expiration(token: &str) -> Option<f64> {
    let Claims { exp, .. } = claims(token)?;
    (exp.is_finite() && exp > 0.0).then_some(exp)
}

fn claims(token: &str) -> Option<Claims> {
    let padding = DecodePaddingMode::Indifferent;
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(padding);
    let engine = GeneralPurpose::new(&URL_SAFE, config);
    let claims = engine.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn seconds(token: &str) -> Option<u64> {
        lifetime(token, at(NOW)).map(|life| life.as_secs())
    }

    #[test]
    fn token_with_claims_tells_its_lifetime() {
        let claims = format!(r#"{{"sub":"ä?>","exp":{}}}"#, NOW + 60);
        assert_eq!(seconds(&jwt(&claims)), Some(60));
        assert_eq!(expiration(&jwt(&claims)), Some((NOW + 60) as f64));
        assert_eq!(expiration(&jwt("{}")), None);
        assert_eq!(expiration("opaque"), None);
        assert_eq!(
            seconds(&format!("e30.{}.", PADDED.encode(&claims))),
            Some(60)
        );
        assert_eq!(seconds(&jwt(r#"{"exp":1800000000.5,"iat":null}"#)), Some(0));
        // By the server's clock, which is not ours.
        for iat in [5, NOW + 100_000, NOW - 50] {
            let claims = format!(r#"{{"iat":{iat},"exp":{}}}"#, iat + 600);
            assert_eq!(
                seconds(&jwt(&claims)),
                Some(if iat == NOW - 50 { 550 } else { 600 })
            );
        }
        // Issued long ago.
        let claims = format!(r#"{{"iat":{},"exp":{}}}"#, NOW - 20_000, NOW + 1600);
        assert_eq!(seconds(&jwt(&claims)), Some(1600));
    }

    #[test]
    fn token_with_invalid_claims_has_default_lifetime() {
        for claims in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"exp":"soon"}"#,
            r#"{"exp":null}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":1800000000}"#,
            r#"{"exp":5,"iat":9}"#,
            "\u{0}",
        ] {
            assert_eq!(seconds(&jwt(claims)), None, "{claims}");
        }
        for token in [
            "", ".", "..", "opaque", "a.b.c", "a.§.c", "a.====.c", "a.e30",
        ] {
            assert_eq!(seconds(token), None, "{token}");
        }
        assert_eq!(
            Token::new(Secret::new("opaque"), ClockReading::now()).lifetime,
            DEFAULT_LIFETIME
        );
    }

    #[test]
    fn token_renewal_depends_on_lifetime() {
        let minutes = |life: u64| renewal_age(Duration::from_secs(life * 60)).as_secs_f64() / 60.0;
        assert_eq!(minutes(360), 288.0);
        assert_eq!(minutes(25), 20.0);
        assert_eq!(minutes(20), 15.0);
        assert_eq!(minutes(6), 3.0);
        assert_eq!(minutes(1), 0.5);
        assert_eq!(minutes(0), 0.0);
    }

    #[test]
    fn token_ages_by_either_clock() {
        let start = ClockReading {
            steady: Instant::now(),
            wall: at(NOW),
        };
        let token = Token::new(Secret::new("opaque"), start);
        let age = |steady, wall: i64| {
            let now = ClockReading {
                steady: start.steady + Duration::from_secs(steady),
                wall: at(NOW.checked_add_signed(wall).unwrap()),
            };
            token.age(now)
        };
        assert_eq!(age(0, 0), TokenAge::Fresh);
        assert_eq!(age(17_279, 17_279), TokenAge::Fresh);
        assert_eq!(age(17_280, 0), TokenAge::RenewalDue);
        assert_eq!(age(21_599, -100_000), TokenAge::RenewalDue);
        assert_eq!(age(21_600, -100_000), TokenAge::Expired);
        // It slept.
        assert_eq!(age(10, 18_000), TokenAge::RenewalDue);
        assert_eq!(age(10, 30_000), TokenAge::Expired);
    }
}
