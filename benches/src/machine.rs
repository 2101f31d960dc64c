//! Describes machine and commit, and reads from `/proc` what a process has used.

use std::{
    fs, io,
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

/// The kernel's unit of CPU time towards programs: `USER_HZ`, 100 on every architecture we meet.
const TICK: Duration = Duration::from_millis(10);
/// The index of the user time in `/proc/<pid>/stat`, counted after the name; the system time
/// follows it. See proc(5).
const USER_TIME_IDX: usize = 11;
/// The resident memory in `/proc/<pid>/status`, in kB of 1,024 bytes, and what of it are no pages of files. See proc(5).
const RSS_FIELD: &str = "VmRSS:";
const ANONYMOUS_FIELD: &str = "RssAnon:";

/// The day, the machine and the kernel, in two lines.
pub(crate) fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "))
        .map_or("unknown CPU", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{now:.0}\n{model}, {cores} cores, Linux {kernel}, load {load}",
        now = jiff::Timestamp::now(),
        kernel = read("/proc/sys/kernel/osrelease").trim(),
        load = read("/proc/loadavg").trim(),
    )
}

/// The commit that is checked out in `root`, and whether files differ from it.
pub(crate) fn commit(root: &Path) -> String {
    let git = |args: &[&str]| Command::new("git").arg("-C").arg(root).args(args).output();
    let text = |output: Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match git(&["rev-parse", "--short=12", "HEAD"]).map(text) {
        Ok(commit) if !commit.is_empty() => {
            // What was written by a run is no change.
            let args = ["status", "--porcelain", "--", ".", ":!benches/runs"];
            let is_clean = git(&args).map(text).is_ok_and(|changes| changes.is_empty());
            let state = if is_clean { "" } else { ", with changes" };
            format!("commit {commit}{state}")
        }
        Ok(_) | Err(_) => "unknown commit".to_owned(),
    }
}

/// User and system time that the process `pid` has used so far, all threads together.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(&stat)
        .map(|ticks| TICK * ticks)
        .ok_or_else(|| io::Error::other("no CPU times in /proc/<pid>/stat"))
}

/// The resident memory of the process `pid`, in bytes.
pub(crate) fn rss(pid: u32) -> io::Result<u64> {
    memory(pid, RSS_FIELD)
}

/// The resident memory of the process `pid` without pages of files, such as the program, in bytes.
pub(crate) fn anonymous(pid: u32) -> io::Result<u64> {
    memory(pid, ANONYMOUS_FIELD)
}

fn memory(pid: u32, field: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let absent = || io::Error::other(format!("no {field} in /proc/<pid>/status"));
    bytes_of(&status, field).ok_or_else(absent)
}

fn ticks(stat: &str) -> Option<u32> {
    // The name may contain blanks and parentheses; it ends at the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(USER_TIME_IDX);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    Some(user + system)
}

fn bytes_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib: u64 = line?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_are_found_behind_any_name() {
        let stat = "71 (a) S (b) R 1 71 71 0 -1 4194560 101 0 0 0 123 45 6 7 20 0 3 0 99 1 2";
        assert_eq!(ticks(stat), Some(168));
        assert_eq!(ticks("71 (short) R 1"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    9999 kB\nVmRSS:\t    8012 kB\nThreads:\t2\n";
        assert_eq!(bytes_of(status, RSS_FIELD), Some(8012 * 1024));
        assert_eq!(bytes_of("Name:\tx\n", RSS_FIELD), None);
    }

    #[test]
    fn this_process_is_there() {
        let pid = std::process::id();
        assert!(rss(pid).unwrap() >= anonymous(pid).unwrap());
        assert!(cpu_time(std::process::id()).is_ok());
    }
}
