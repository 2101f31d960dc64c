//! Root certificates that a file adds to those of the machine.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The largest file of certificates: ten times the roots of Mozilla.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads the certificates of a PEM file.
///
/// # Errors
/// What is wrong with it.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let pem = read(path).map_err(|error| format!("the file {shown} cannot be read ({error})"))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = read.map_err(|error| format!("the file {shown} is not PEM ({error})"))?;
    if certificates.is_empty() {
        return Err(format!(
            "the file {shown} holds no certificate; expected PEM: -----BEGIN CERTIFICATE-----"
        ));
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        let added = store.add(certificate.clone());
        added.map_err(|error| {
            format!("the file {shown} holds a certificate that cannot be used ({error})")
        })?;
    }
    Ok(certificates)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(FILE_BYTES_MAX + 1);
    if file.read_to_end(&mut bytes)? as u64 > FILE_BYTES_MAX {
        let problem = format!("larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::other(problem));
    }
    Ok(bytes)
}
