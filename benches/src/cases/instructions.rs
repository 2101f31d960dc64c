//! What `benches/instructions` counts: user instructions and system calls a call.

use std::{path::Path, process::Command};

use crate::{
    Fault,
    bench::Bench,
    cases::{Case, heading},
    output::progress,
};

pub(super) fn measure(bench: &Bench) -> Result<(), Fault> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions");
    bench.output.say(&heading(
        Case::Instructions,
        "user instructions (callgrind) and system calls (strace) a call",
    ))?;
    for tool in ["callgrind", "strace"] {
        progress(tool);
        let mut command = Command::new(&script);
        if let Some(programs) = bench.program.parent() {
            command.arg("--programs").arg(programs);
        }
        let output = command.args(["--tool", tool]).output();
        let told = match output {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            Ok(output) => {
                let error = String::from_utf8_lossy(&output.stderr);
                let last = error.lines().last().unwrap_or_default();
                format!("{tool}: not counted: {last}")
            }
            Err(error) => format!("{tool}: not counted: {error}"),
        };
        bench.output.say(told.trim_end())?;
    }
    Ok(())
}
