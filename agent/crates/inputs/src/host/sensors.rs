//! Temperatures, from /sys/class/hwmon and /sys/class/thermal, where the machine has any.

use super::procfs::Roots;
use super::{HostConfig, Sink};

pub(super) fn sample(roots: &Roots, config: &HostConfig, sink: &mut Sink<'_, '_>) {
    if !config.wants("temperature") {
        return;
    }
    for chip in roots.sys_dir("class/hwmon").into_iter().take(config.max_instances) {
        let folder = format!("class/hwmon/{chip}");
        let name = roots.sys(&format!("{folder}/name")).unwrap_or_else(|| chip.clone());
        for file in roots.sys_dir(&folder) {
            let Some(number) = file.strip_prefix("temp").and_then(|rest| rest.strip_suffix("_input")) else {
                continue;
            };
            let label =
                roots.sys(&format!("{folder}/temp{number}_label")).unwrap_or_else(|| format!("temp{number}"));
            degrees(roots, &format!("{folder}/{file}"), &format!("{name}/{label}"), sink);
        }
    }
    for zone in roots.sys_dir("class/thermal").into_iter().take(config.max_instances) {
        if zone.starts_with("thermal_zone") {
            let folder = format!("class/thermal/{zone}");
            let kind = roots.sys(&format!("{folder}/type")).unwrap_or_default();
            degrees(roots, &format!("{folder}/temp"), &format!("{zone}/{kind}"), sink);
        }
    }
}

/// Millidegrees; a sensor that is asleep answers with an error and gives no sample.
fn degrees(roots: &Roots, path: &str, sensor: &str, sink: &mut Sink<'_, '_>) {
    if let Some(milli) = roots.sys(path).and_then(|text| text.parse::<f64>().ok()) {
        sink.put("hw.temperature", &[("sensor", sensor)], "Cel", milli / 1e3);
    }
}
