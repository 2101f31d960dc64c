//! nginx and `HAProxy` as plain proxies, if they are installed.

use std::{
    env,
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Fault,
    child::{Server, free_addr},
};

/// Where Debian has them, which is not in the `PATH` of every user.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
const START_TIME_MAX: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// A proxy that others wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proxy {
    Nginx,
    Haproxy,
}

impl Proxy {
    pub(crate) const ALL: [Self; 2] = [Self::Nginx, Self::Haproxy];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// The program, if it is installed.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let directories = env::split_paths(&path).chain(SYSTEM_DIRECTORIES.map(PathBuf::from));
        let mut files = directories.map(|directory| directory.join(self.as_str()));
        files.find(|file| file.is_file())
    }

    /// Starts it in front of `upstream`: one process, one thread, kept connections on both sides.
    pub(crate) fn start(
        self,
        program: &Path,
        upstream: SocketAddr,
        directory: &Path,
    ) -> Result<Server, Fault> {
        let addr = free_addr()?;
        let file = directory.join(format!("{}.conf", self.as_str()));
        let (text, flags) = match self {
            Self::Nginx => (
                nginx(addr, upstream, directory),
                ["-e", "stderr", "-c"].as_slice(),
            ),
            Self::Haproxy => (haproxy(addr, upstream), ["-db", "-f"].as_slice()),
        };
        fs::write(&file, text)?;
        let words = [program.to_str()]
            .into_iter()
            .chain(flags.iter().copied().map(Some))
            .chain([file.to_str()])
            .collect::<Option<Vec<_>>>();
        let words = words.ok_or("the path is no text")?;
        let command: Vec<_> = words.into_iter().map(str::to_owned).collect();
        let log = directory.join(format!("{}.log", self.as_str()));
        Server::program(&command, &[], File::create(&log)?, || {
            let until = Instant::now() + START_TIME_MAX;
            while TcpStream::connect(addr).is_err() {
                if Instant::now() > until {
                    return Err(fs::read_to_string(&log)?.into());
                }
                thread::sleep(LOOK_INTERVAL);
            }
            Ok(addr)
        })
    }
}

fn nginx(addr: SocketAddr, upstream: SocketAddr, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "\
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr;
events {{ worker_connections 20000; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    upstream kling {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen {addr};
        location / {{ proxy_pass http://kling; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
    }}
}}
"
    )
}

fn haproxy(addr: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "\
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 300s
    http-reuse always
frontend clients
    bind {addr}
    default_backend kling
backend kling
    server kling {upstream}
"
    )
}
