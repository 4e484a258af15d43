//! What goes where. Files of this machine's own administrator go to `/etc` and `/usr/local`; a package's are in `/usr`.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The configuration.
pub const CONFIG: &str = "/etc/relais/relais.toml";
/// Its directory.
pub const CONFIG_DIR: &str = "/etc/relais";
/// The state directory of the unit.
pub const STATE_DIR: &str = "/var/lib/relais";
/// The program.
pub const BINARY: &str = "/usr/local/bin/relais";
/// The program as a package installs it.
const PACKAGED_BINARY: &str = "/usr/bin/relais";
/// The user of the service.
pub const USER: &str = "relais";

/// Files with fixed contents, beside the program and its configuration.
pub const FILES: &[(&str, &str)] = &[
    ("/etc/systemd/system/relais.service", include_str!("../../../systemd/relais.service")),
    ("/etc/systemd/system/relais.socket", include_str!("../../../systemd/relais.socket")),
    ("/etc/sysusers.d/relais.conf", include_str!("../../../systemd/relais.sysusers")),
    ("/etc/tmpfiles.d/relais.conf", include_str!("../../../systemd/relais.tmpfiles")),
    ("/usr/local/share/man/man1/relais.1", include_str!("../../../man/relais.1")),
];

/// Links that start the service with the machine, and what they lead to: what `systemctl enable` makes.
pub const LINKS: &[(&str, &str)] = &[
    ("/etc/systemd/system/multi-user.target.wants/relais.service", "/etc/systemd/system/relais.service"),
    ("/etc/systemd/system/sockets.target.wants/relais.socket", "/etc/systemd/system/relais.socket"),
];

/// Where this installation goes.
pub struct Layout {
    root: Option<PathBuf>,
    /// The program that runs now, to be copied.
    pub program: PathBuf,
    /// Program and units are those of a package, which looks after them.
    pub is_packaged: bool,
}

impl Layout {
    pub fn new(root: Option<&Path>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find out which file this program is")?;
        let is_packaged = root.is_none() && program == Path::new(PACKAGED_BINARY);
        Ok(Self { root: root.map(Path::to_owned), program, is_packaged })
    }

    /// The file `path` of the target.
    pub fn target(&self, path: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.trim_start_matches('/')),
            None => path.into(),
        }
    }

    /// The installed program.
    pub fn installed(&self) -> PathBuf {
        if self.is_packaged { self.program.clone() } else { self.target(BINARY) }
    }

    /// Nothing is started or stopped below another root.
    pub fn is_image(&self) -> bool {
        self.root.is_some()
    }
}
