// SPDX-License-Identifier: MIT

//! The certificate authorities that the system trusts, for the error that one is
//! missing: `SSL_CERT_FILE` and `SSL_CERT_DIR` take the place of the system's own,
//! and what they name may not be there. Read only when a certificate was refused.

use std::{env, ffi::OsStr, fs, path::Path};

/// What the user can do where the authority of a certificate is unknown.
pub(super) fn advice() -> String {
    let [file, directories] = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(env::var_os);
    advice_for(file.as_deref(), directories.as_deref())
}

/// The names are the variables' values.
fn advice_for(file: Option<&OsStr>, directories: Option<&OsStr>) -> String {
    let file_fault = file.and_then(|path| file_fault(Path::new(path)));
    if let Some(fault) = file_fault {
        return format!("SSL_CERT_FILE {fault}");
    }
    let directories = directories.map(env::split_paths).into_iter().flatten();
    let mut directories = directories.filter(|path| !path.as_os_str().is_empty());
    if let Some(fault) = directories.find_map(|path| directory_fault(&path)) {
        return format!("SSL_CERT_DIR {fault}");
    }
    "its authority is not among those that the system trusts (package ca-certificates: add \
     it below /usr/local/share/ca-certificates and run update-ca-certificates), or those in \
     SSL_CERT_FILE, which take their place"
        .to_owned()
}

fn file_fault(path: &Path) -> Option<String> {
    let shown = path.display();
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => return Some(format!("names {shown}, which cannot be read: {error}")),
    };
    let blocks = pem::parse_many(&text).unwrap_or_default();
    let has_certificate = blocks.iter().any(|block| block.tag() == "CERTIFICATE");
    (!has_certificate).then(|| {
        format!(
            "names {shown}, which has no certificate in PEM (-----BEGIN CERTIFICATE-----); \
             one in DER is converted by openssl x509 -inform der"
        )
    })
}

fn directory_fault(path: &Path) -> Option<String> {
    let error = fs::read_dir(path).err()?;
    let shown = path.display();
    Some(format!("names {shown}, which cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_file_that_is_no_good() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("corporate.pem");
        let said = || advice_for(Some(file.as_os_str()), None);
        assert!(said().contains("cannot be read"), "{}", said());
        fs::write(&file, b"\x30\x82\x01\x0a").unwrap();
        assert!(said().contains("no certificate in PEM"), "{}", said());
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        fs::write(&file, key).unwrap();
        assert!(said().contains("no certificate in PEM"), "{}", said());
        fs::write(&file, key.replace("PRIVATE KEY", "CERTIFICATE")).unwrap();
        assert!(said().contains("update-ca-certificates"), "{}", said());
    }

    #[test]
    fn advice_names_the_directory_that_is_no_good() {
        let directory = tempfile::tempdir().unwrap();
        let good = directory.path().as_os_str();
        let bad = directory.path().join("nothing");
        let both = env::join_paths([good, bad.as_os_str()]).unwrap();
        let said = advice_for(None, Some(&both));
        assert!(said.contains("SSL_CERT_DIR names"), "{said}");
        assert!(said.contains("nothing"), "{said}");
        let said = advice_for(None, Some(good));
        assert!(said.contains("update-ca-certificates"), "{said}");
    }
}
