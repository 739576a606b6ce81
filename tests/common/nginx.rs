// SPDX-License-Identifier: MIT

//! nginx as a child process of the test, with its RTMP module and an HTTP server. It listens on
//! loopback only.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{pipeline::wait_until, server::free_port};

#[derive(Debug)]
pub struct Nginx {
    child: Child,
    /// Its working directory, with `www`, the root of the HTTP server.
    pub directory: PathBuf,
    rtmp: u16,
    http: u16,
}

impl Nginx {
    /// Creates `directory`; it is removed when the test has passed.
    pub fn start(directory: PathBuf) -> Self {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("www")).expect("a directory");
        let (rtmp, http) = (free_port(), free_port());
        let root = root();
        let configuration = directory.join("nginx.conf");
        let module = root.join("usr/lib/nginx/modules/ngx_rtmp_module.so");
        std::fs::write(&configuration, configure(&module, rtmp, http)).expect("a file");
        let child = Command::new(root.join("usr/sbin/nginx"))
            // Until it has read the configuration.
            .args(["-e", "stderr", "-p"])
            .arg(&directory)
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx, which tests/run.sh unpacks; REACTOR_NGINX says where");
        let nginx = Self {
            child,
            directory,
            rtmp,
            http,
        };
        wait_until("nginx listens", Duration::from_secs(10), || {
            let there = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
            there(rtmp) && there(http)
        });
        nginx
    }

    /// The RTMP URL of a stream.
    pub fn rtmp(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{stream}", self.rtmp)
    }

    /// The HTTP URL of a file below `www`.
    pub fn http(&self, file: &str) -> String {
        format!("http://127.0.0.1:{}/{file}", self.http)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// The root under which Debian's packages are installed, or were unpacked.
fn root() -> PathBuf {
    std::env::var_os("REACTOR_NGINX").map_or_else(|| "/".into(), PathBuf::from)
}

fn configure(module: &Path, rtmp: u16, http: u16) -> String {
    format!(
        r#"
load_module "{}";
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{}}
rtmp {{
    access_log off;
    server {{
        listen 127.0.0.1:{rtmp};
        # Whoever watches begins with a keyframe, and with sound no earlier.
        application live {{ live on; wait_key on; wait_video on; }}
    }}
}}
http {{
    access_log off;
    types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; }}
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    server {{ listen 127.0.0.1:{http}; root www; }}
}}
"#,
        module.display()
    )
}
