// SPDX-License-Identifier: MIT

//! Notices that the address of the connection has left the machine (another network,
//! a cable that was pulled): nothing sent from it would arrive, and libnice 0.1.21
//! does not look. Used by the transport thread alone.

use std::{
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
};

/// An address may be away for a moment while it is renewed: it is gone when this many
/// looks in a row, [`super::jitter_latency::POLL_INTERVAL`] apart, do not find it.
const LOOKS: u32 = 2;

/// Watches the address of the selected candidate.
#[derive(Debug, Default)]
pub(super) struct AddressWatch {
    address: Option<IpAddr>,
    missing: u32,
}

impl AddressWatch {
    /// `None` where it is not known: only a host candidate's is one of the machine's.
    pub(super) fn set(&mut self, address: Option<IpAddr>) {
        if self.address != address {
            *self = Self {
                address,
                missing: 0,
            };
        }
    }

    /// The address, once, when it is gone.
    pub(super) fn look(&mut self, is_ours: impl FnOnce(IpAddr) -> bool) -> Option<IpAddr> {
        let address = self.address?;
        if is_ours(address) {
            self.missing = 0;
            return None;
        }
        self.missing += 1;
        (self.missing == LOOKS).then_some(address)
    }
}

/// Whether an interface of this machine has the address. In doubt (no descriptor left,
/// an address that needs a scope) it has.
pub(super) fn is_ours(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn address_that_stays_away_is_gone_once() {
        let mut watch = AddressWatch::default();
        assert_eq!(watch.look(|_| false), None, "none is known");
        watch.set(Some(ADDRESS));
        let looks = [true, false, true, false, false, false, true];
        let found: Vec<_> = looks.map(|ours| watch.look(|_| ours).is_some()).into();
        let expected = [false, false, false, false, true, false, false];
        assert_eq!(found, expected);
    }

    #[test]
    fn other_address_is_looked_for_anew() {
        let mut watch = AddressWatch::default();
        watch.set(Some(ADDRESS));
        assert_eq!(watch.look(|_| false), None);
        watch.set(Some([127, 0, 0, 1].into()));
        assert_eq!(watch.look(|_| false), None);
        watch.set(Some([127, 0, 0, 1].into()));
        assert!(watch.look(|_| false).is_some());
    }

    #[test]
    fn addresses_of_this_machine_are_known() {
        assert!(is_ours([127, 0, 0, 1].into()));
        assert!(!is_ours(ADDRESS));
    }
}
