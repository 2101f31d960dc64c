//! Describes the machine, and reads the CPU time of a process from `/proc`.

use std::{fs, io, thread, time::Duration};

/// The kernel's unit of CPU time towards programs: `USER_HZ`, 100 on every architecture we meet.
const TICK: Duration = Duration::from_millis(10);
/// The index of the user time in `/proc/<pid>/stat`, counted after the name; the system time
/// follows it. See proc(5).
const USER_TIME_IDX: usize = 11;

/// The machine, the kernel and the day, in two lines.
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

/// User and system time that the process `pid` has used so far, all threads together.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may contain blanks and parentheses; it ends at the last one.
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    let ticks: Vec<u32> = fields
        .split(' ')
        .skip(USER_TIME_IDX)
        .take(2)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    match ticks[..] {
        [user, system] => Ok(TICK * (user + system)),
        _ => Err(io::Error::other("no CPU times in /proc/<pid>/stat")),
    }
}
