//! `[admin]`: where a running gate can be asked how it is.
//!
//! Must not know what it answers.

use std::path::PathBuf;

use crate::admin::AdminConfig;
use crate::sys::socket_file::Access;

use super::endpoint::{AdminAddress, admin};
use super::finding::Finding;
use super::scalar::{Complaint, group, permissions};
use super::section::Section;

/// Reads `[admin]`; `None`: nobody can ask.
pub(super) fn read(mut section: Section<'_>) -> Option<AdminConfig> {
    let before = section.sheet.errors();
    let base = section.base;
    let listen = section.parsed("listen", |text| admin(text, base));
    if section.at.is_some() && listen.is_none() && section.sheet.errors() == before {
        let hint = "listen = \"unix:/run/namegate/admin.sock\", or leave the table out";
        section.missing("[admin] listens nowhere", hint);
    }
    let config = listen.and_then(|listen| match listen {
        AdminAddress::Unix(path) => {
            let hint = "on a unix socket, `socket_mode` and `socket_group` say who may ask";
            section.without_effect(&["token_file"], "on a unix socket", hint);
            let mode = section.parsed("socket_mode", permissions).unwrap_or(0o600);
            let access = Access { mode, group: section.parsed("socket_group", group) };
            warn_of_everyone(&mut section, mode);
            Some(AdminConfig::Unix { path, access })
        }
        AdminAddress::Tcp(address) => {
            let hint = "over TCP, `token_file` says who may ask";
            section.without_effect(&["socket_mode", "socket_group"], "over TCP", hint);
            let before = section.sheet.errors();
            let token_file = section.parsed("token_file", file).map(|path| base.join(path));
            if token_file.is_none() && section.sheet.errors() == before {
                let hint = "token_file = \"/etc/namegate/admin.token\": every user of this host can reach the port; \
                            `head -c 32 /dev/urandom | base64` makes a token";
                section.missing("[admin] over TCP needs a `token_file`", hint);
            }
            token_file.map(|token_file| AdminConfig::Tcp { address, token_file })
        }
    });
    // Known, also where nothing was read of them.
    for key in ["socket_mode", "socket_group", "token_file"] {
        section.value(key);
    }
    section.finish();
    config
}

fn warn_of_everyone(section: &mut Section<'_>, mode: u32) {
    if mode & 0o002 != 0
        && let Some(value) = section.value("socket_mode")
    {
        let message = "any user of this host may ask how the gate is";
        let finding = Finding::warning(section.span(value.span()), message);
        section.sheet.push(finding.hint("\"0660\" with `socket_group`"));
    }
}

fn file(text: &str) -> Result<PathBuf, Complaint> {
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return Err(Complaint::new("not the path of a file").hint("\"/etc/namegate/admin.token\""));
    }
    Ok(text.into())
}
