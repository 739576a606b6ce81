// SPDX-License-Identifier: MIT

//! Tells whoever logs of each HTTP exchange, without its secrets. Called in the
//! task that sends the request.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use reqwest::Method;

use crate::platform::Error;

/// A request and its response, or the failure.
#[derive(Debug)]
pub struct Exchange<'a> {
    pub method: &'a Method,
    /// Without user, password and query.
    pub url: &'a str,
    /// The status of the response; of one that is no success it is in the error.
    pub outcome: Result<u16, &'a Error>,
    /// Until the response was read, or began where it is read piece by piece.
    pub duration: Duration,
}

type Observer = fn(&Exchange<'_>);

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Sets what is called after each exchange of the process; the first call counts.
pub fn observe_exchanges(observer: Observer) {
    let _ = OBSERVER.set(observer);
}

/// Runs an exchange, and tells the observer of its outcome.
pub(super) async fn observed<T>(
    method: &Method,
    url: &str,
    status: fn(&T) -> u16,
    exchange: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let begun = Instant::now();
    let result = exchange.await;
    if let Some(observe) = OBSERVER.get() {
        observe(&Exchange {
            method,
            url,
            outcome: result.as_ref().map(status),
            duration: begun.elapsed(),
        });
    }
    result
}
