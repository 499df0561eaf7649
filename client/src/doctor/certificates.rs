//! The certificates of whoever uses this machine.

use std::{path::PathBuf, sync::Arc};

use edgeprof_service::tls::{Keeper, Own, Untrusted};

use super::check::Check;
use crate::args::Global;

/// A folder of certificates, and what is in it.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) folder: PathBuf,
    pub(crate) keeper: Result<Arc<Keeper>, Untrusted>,
}

/// Reads the folder that every command would; nothing where there is none.
pub(crate) fn probe(global: &Global) -> Option<Certificates> {
    let folder = global.certificates()?;
    let keeper = Keeper::open(&folder, Own::Client).map(Arc::new);
    Some(Certificates { folder, keeper })
}

/// A lab on one machine needs none.
pub(crate) fn judge(certificates: Option<&Certificates>) -> Check {
    const NAME: &str = "certificates";
    let Some(Certificates { folder, keeper }) = certificates else {
        return Check::ok(NAME, "none; a lab on one machine needs none");
    };
    match keeper {
        Err(why) => Check::problem(NAME, &why.what, &why.hint),
        Ok(keeper) => {
            let whose = match keeper.certificate() {
                Some(own) => format!("{}, good until {}", own.holder(), own.not_after.date()),
                None => "ca.pem alone, for who shows a token".to_owned(),
            };
            Check::ok(NAME, format!("{whose}, in {}", folder.display()))
        }
    }
}
