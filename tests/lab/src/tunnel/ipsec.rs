//! strongSwan with its user-space IPsec: one charon per end of each tunnel.
//!
//! The kernel need not know ESP. Each charon makes a TUN interface and carries all
//! that is routed into it as ESP in UDP. Both ends agree on 0.0.0.0/0, so that the
//! routes decide, as with the article's `st0` interfaces.

use crate::error::LabError;
use crate::lab;
use crate::namespace::Namespace;
use crate::topology::PUBLIC;
use crate::tunnel::Spec;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Interfaces in the order in which charons of one node make them. The plugin finds
/// them by these names: they must not be renamed.
pub(super) const INTERFACES: [&str; 2] = ["ipsec0", "ipsec1"];
/// Where the charons' own files are.
const PLACE: &str = "/run/ipsec";
/// How long a charon may take to start, or a tunnel to come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// One end of a tunnel.
struct End {
    name: String,
    /// Its own IKE port, and that for ESP in UDP.
    ports: [u16; 2],
    local: std::net::Ipv4Addr,
    remote: std::net::Ipv4Addr,
}

impl End {
    fn folder(&self) -> PathBuf {
        Path::new(PLACE).join(&self.name)
    }

    fn vici(&self) -> String {
        format!("unix://{}/charon.vici", self.folder().display())
    }

    /// strongswan.conf. The plugin's route for 0.0.0.0/0 in table 220 would catch the
    /// outer packets and all others: a mark that nothing carries takes it out of use.
    fn daemon(&self, log: &Path) -> String {
        format!(
            "charon {{
  load = random nonce openssl sha2 hmac kdf pem pkcs1 x509 pubkey kernel-libipsec kernel-netlink socket-default vici updown
  port = {}
  port_nat_t = {}
  install_virtual_ip = no
  retransmit_timeout = 1.0
  plugins {{
    vici {{ socket = {} }}
    kernel-libipsec {{ allow_peer_ts = yes }}
    kernel-netlink {{ fwmark = 0x99 }}
  }}
  filelog {{ lab {{
    path = {}
    default = 1
    flush_line = yes
    time_format = %Y-%m-%dT%H:%M:%S
  }} }}
}}\n",
            self.ports[0],
            self.ports[1],
            self.vici(),
            log.display(),
        )
    }

    /// swanctl.conf. The key protects nothing: both ends are in the lab.
    fn connection(&self) -> String {
        let Self { local, remote, .. } = self;
        format!(
            "connections {{ tunnel {{
  version = 2
  proposals = aes128gcm16-prfsha256-ecp256
  encap = yes
  mobike = no
  dpd_delay = 10s
  local_addrs = {local}
  remote_addrs = {remote}
  local {{
    auth = psk
    id = {local}
  }}
  remote {{
    auth = psk
    id = {remote}
  }}
  children {{ tunnel {{
    esp_proposals = aes128gcm16
    local_ts = 0.0.0.0/0
    remote_ts = 0.0.0.0/0
    rekey_time = 0
    dpd_action = restart
  }} }}
}} }}
secrets {{ ike-lab {{
  secret = hopgap-lab
}} }}\n",
        )
    }

    fn start(&self, namespace: &Namespace, out: &Path) -> Result<Child, LabError> {
        let folder = self.folder();
        fs::create_dir_all(folder.join("run/ipsec"))
            .map_err(LabError::io(format!("create {}", folder.display())))?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(LabError::io(format!("write {}", path.display())))?;
            Ok::<_, LabError>(path)
        };
        let log = out.join(format!("{}.log", self.name));
        // Of an earlier lab in the same place.
        let _ = fs::remove_file(&log);
        let config = write("strongswan.conf", self.daemon(&log))?;
        write("swanctl.conf", self.connection())?;
        // Its process file has a fixed place in /run, where each needs its own.
        let script = write(
            "start",
            format!(
                "#!/bin/sh -e
mount --bind {PLACE} {folder}/run/ipsec
mount --rbind {folder}/run /run
exec /usr/lib/ipsec/charon\n",
                folder = folder.display()
            ),
        )?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(LabError::io(
            format!("make {} executable", script.display()),
        ))?;
        let mut command = Command::new("unshare");
        command
            .arg("--mount")
            .arg(&script)
            .env("STRONGSWAN_CONF", config);
        lab::spawn(
            namespace,
            &mut command,
            &out.join(format!("{}.err", self.name)),
        )
    }

    fn swanctl(&self, namespace: &Namespace, arguments: &[&str]) -> Result<String, LabError> {
        let mut command = Command::new("swanctl");
        command.args(arguments).args(["--uri", &self.vici()]);
        namespace.run(&mut command)
    }

    /// Gives the charon its connection, once it is there to take it.
    fn load(&self, namespace: &Namespace) -> Result<(), LabError> {
        let file = self.folder().join("swanctl.conf").display().to_string();
        retried(|| self.swanctl(namespace, &["--load-creds", "--noprompt", "--file", &file]))?;
        retried(|| self.swanctl(namespace, &["--load-conns", "--file", &file]))
    }
}

fn retried(mut attempt: impl FnMut() -> Result<String, LabError>) -> Result<(), LabError> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Starts both ends of a tunnel and brings it up.
pub(super) fn start(
    spec: Spec,
    fw: &Namespace,
    gateway: &Namespace,
    out: &Path,
) -> Result<[Child; 2], LabError> {
    let [local, remote] = [PUBLIC[0], PUBLIC[spec.index + 1]];
    let near = End {
        name: format!("charon-fw-{}", spec.id),
        // Two charons at one address need different ports.
        ports: [[500, 4500], [5500, 5501]][spec.index],
        local,
        remote,
    };
    let far = End {
        name: format!("charon-{}", spec.gateway),
        ports: [500, 4500],
        local: remote,
        remote: local,
    };
    let children = [near.start(fw, out)?, far.start(gateway, out)?];
    far.load(gateway)?;
    near.load(fw)?;
    near.swanctl(fw, &["--initiate", "--child", "tunnel", "--timeout", "10"])?;
    Ok(children)
}
