//! Devices with the installed Syncthing, all on 127.0.0.1: nothing reaches another machine.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::mount::{Home, wait_for};

/// The limit of a wait: the syncers' own delays and retries come on top of the change itself.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often waiting devices look at their folders again: Syncthing itself holds removals back.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// The folder's id, and the key of the REST interfaces.
const FOLDER: &str = "dds";

/// A machine on which Syncthing keeps one folder in step with others.
pub struct Device {
    /// Goes first: it writes to the home.
    child: Option<Child>,
    home: Home,
    name: &'static str,
    id: String,
    folder: PathBuf,
    port: u16,
    rest_port: u16,
    peers: String,
}

impl Device {
    /// A device with keys of its own, and without peers. Its folder must exist.
    pub fn new(name: &'static str, folder: &Path) -> Device {
        let home = Home::new();
        let id = generate(&home);
        std::fs::create_dir_all(folder.join(".stfolder")).unwrap();
        Device {
            child: None,
            home,
            name,
            id,
            folder: folder.to_owned(),
            port: free_port(),
            rest_port: free_port(),
            peers: String::new(),
        }
    }

    /// Makes two devices that are not started know each other.
    pub fn introduce(one: &mut Device, other: &mut Device) {
        let [to_one, to_other] = [&*other, &*one].map(Device::as_peer);
        one.peers += &to_one;
        other.peers += &to_other;
    }

    fn as_peer(&self) -> String {
        let Device { id, port, .. } = self;
        format!("<device id='{id}'><address>tcp://127.0.0.1:{port}</address></device>")
    }

    /// Starts Syncthing and waits until it answers and has read the folder.
    pub fn start(&mut self) {
        assert!(self.child.is_none());
        std::fs::write(self.dir().join("config.xml"), self.configuration()).unwrap();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.path("log"))
            .unwrap();
        // The kernel kills the child when the thread that started it ends, however it ends. So the
        // child must be Syncthing itself, not the process that watches over Syncthing.
        let mut command = isolated(&self.home, "setpriv");
        command
            .args(["--pdeathsig", "KILL", "syncthing", "serve", "--home"])
            .arg(self.dir())
            .args(["--no-browser", "--no-restart", "--no-upgrade"])
            .env("STMONITORED", "yes")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        self.child = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while !self.is_idle() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "{ended:?}: {}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends Syncthing as its user would, and waits for that.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("a running device");
        signal(&child, libc::SIGTERM);
        wait_for("the end of a Syncthing", || {
            child.try_wait().unwrap().is_some()
        });
    }

    /// Removes the index that a device keeps of its folder, as a repair does, but not the folder.
    /// The device must not be running.
    pub fn forget(&self) {
        assert!(self.child.is_none());
        let mut forgot = 0;
        for entry in std::fs::read_dir(self.dir()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str().unwrap().starts_with("index-") {
                std::fs::remove_dir_all(entry.path()).unwrap();
                forgot += 1;
            }
        }
        assert_eq!(forgot, 1);
    }

    /// Makes a running device look at its folder now.
    pub fn scan(&self) {
        if self.child.is_some() {
            // One that is busy is asked again.
            let _ = self.rest("POST", "db/scan");
        }
    }

    /// The folder that is kept in step.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all files in a folder of the store, in order.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // Syncthing's own, on the way.
        let mut names: Vec<_> = names.filter(|name| !name.starts_with(".sync")).collect();
        names.sort();
        names
    }

    fn dir(&self) -> PathBuf {
        self.home.path("syncthing")
    }

    fn is_idle(&self) -> bool {
        let status = self.rest("GET", "db/status");
        let status = status.and_then(|body| serde_json::from_str::<Value>(&body).ok());
        status.is_some_and(|status| status["state"] == "idle")
    }

    /// Calls the REST interface for the folder. `None` if it does not answer, or not with OK.
    fn rest(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.rest_port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "{method} /rest/{path}?folder={FOLDER} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n\
             X-API-Key: {FOLDER}\r\nContent-Length: 0\r\n\r\n",
            self.rest_port
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.lines()
            .next()?
            .contains(" 200 ")
            .then(|| body.to_owned())
    }

    fn said(&self) -> String {
        let log = std::fs::read(self.home.path("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("{} ({}):\n{tail}\n", self.name, self.id)
    }

    /// Only the parts that a test is about: one folder, and no discovery, relays or reports.
    fn configuration(&self) -> String {
        let Device {
            name,
            id,
            port,
            rest_port,
            peers,
            ..
        } = self;
        let folder = self.folder.display();
        // Only their ids count here.
        let members = peers.replace("address>", "ignored>");
        format!(
            "<configuration version='35'>
    <folder id='{FOLDER}' label='{FOLDER}' path='{folder}' type='sendreceive' rescanIntervalS='3600'
            fsWatcherEnabled='true' fsWatcherDelayS='1' ignorePerms='true'>
        <filesystemType>basic</filesystemType>
        <device id='{id}'></device>{members}
        <minDiskFree unit='%'>0</minDiskFree>
    </folder>
    <device id='{id}' name='{name}'><address>tcp://127.0.0.1:{port}</address></device>{peers}
    <gui enabled='true' tls='false'>
        <address>127.0.0.1:{rest_port}</address>
        <apikey>{FOLDER}</apikey>
    </gui>
    <options>
        <listenAddress>tcp://127.0.0.1:{port}</listenAddress>
        <globalAnnounceEnabled>false</globalAnnounceEnabled>
        <localAnnounceEnabled>false</localAnnounceEnabled>
        <announceLANAddresses>false</announceLANAddresses>
        <relaysEnabled>false</relaysEnabled>
        <natEnabled>false</natEnabled>
        <stunKeepaliveStartS>0</stunKeepaliveStartS>
        <crashReportingEnabled>false</crashReportingEnabled>
        <urAccepted>-1</urAccepted>
        <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
        <startBrowser>false</startBrowser>
        <setLowPriority>false</setLowPriority>
        <reconnectionIntervalS>1</reconnectionIntervalS>
        <minHomeDiskFree unit='%'>0</minHomeDiskFree>
    </options>
</configuration>
"
        )
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, libc::SIGKILL);
            let _ = child.wait();
        }
    }
}

/// Waits until a condition holds, and makes the running devices look at their folders meanwhile.
/// Panics with `what` and the logs of the devices when patience ends.
#[track_caller]
pub fn wait_synced(what: &str, devices: &[&Device], mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    let mut scanned: Option<Instant> = None;
    while !condition() {
        if begun.elapsed() > PATIENCE {
            let mut said = String::new();
            for device in devices {
                let folders = ["keys", "messages", "notes"].map(|folder| device.files(folder));
                write!(said, "\n{folders:?}\n{}", device.said()).unwrap();
            }
            panic!("waited too long: {what}{said}");
        }
        if scanned.is_none_or(|last| last.elapsed() > SCAN_INTERVAL) {
            devices.iter().for_each(|device| device.scan());
            scanned = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that cannot be led to other machines by the environment.
fn isolated(home: &Home, program: &str) -> Command {
    let mut command = home.command(program);
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy().to_lowercase();
        if name.ends_with("_proxy") || name.starts_with("st") {
            command.env_remove(variable);
        }
    }
    command
        .env("STNOUPGRADE", "1")
        .env("STNODEFAULTFOLDER", "1")
        .env("STNORESTART", "1");
    command
}

/// Makes a device's keys. Returns its id.
fn generate(home: &Home) -> String {
    let dir = home.path("syncthing");
    let mut said = Vec::new();
    // The second is how versions before 1.19 want it.
    for words in [["generate", "--home"], ["-generate", ""]] {
        let mut command = isolated(home, "syncthing");
        match words {
            [only, ""] => command.arg(format!("{only}={}", dir.display())),
            words => command.args(words).arg(&dir),
        };
        let output = command.stderr(Stdio::piped()).output().unwrap();
        if output.status.success() {
            let made = std::fs::read_to_string(dir.join("config.xml")).unwrap();
            let id = made.split("<device id=\"").nth(1).unwrap();
            let id = id.split('"').next().unwrap().to_owned();
            assert_eq!(id.len(), 63, "{made}");
            return id;
        }
        said.extend(output.stderr);
    }
    panic!("no keys: {}", String::from_utf8_lossy(&said));
}

/// Finds a port on which nothing listens. It stays free while a device is away: the kernel gives
/// these numbers only to programs that ask for them.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 1000).unwrap() * 10;
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (begin + next) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
        assert!(next < 12_000, "no free port");
    }
}

/// Sends a signal to a child that leads a process group, and to all in it.
fn signal(child: &Child, signal: i32) {
    let group = i32::try_from(child.id()).unwrap();
    // SAFETY: the group is that of our child, which has not been waited for.
    unsafe { libc::kill(-group, signal) };
}
