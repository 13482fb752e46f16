//! Temperatures: /sys/class/hwmon and /sys/class/thermal.
//!
//! The numbers of hwmon folders move between boots, so a sensor is named by its device and label.
//! Which sensors there are is looked up now and then, their values on every tick.

use std::path::{Path, PathBuf};

/// Colder or hotter is a broken sensor.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = -200.0..=1500.0;

/// One temperature sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sensor {
    pub(super) name: String,
    input: PathBuf,
    fault: Option<PathBuf>,
}

impl Sensor {
    /// Degrees Celsius; `None` where the sensor says that it is faulty, or nothing.
    pub(super) fn read(&self) -> Option<f64> {
        if self.fault.as_deref().and_then(line).is_some_and(|fault| fault != "0") {
            return None;
        }
        let milli: f64 = line(&self.input)?.parse().ok()?;
        Some(milli / 1000.0).filter(|value| PLAUSIBLE.contains(value))
    }
}

fn line(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.lines().next()?.trim().to_owned())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// All sensors under a /sys, at most `max`.
pub(super) fn find(sysfs: &Path, max: usize) -> Vec<Sensor> {
    let mut sensors = Vec::new();
    for chip in entries(&sysfs.join("class/hwmon")) {
        let device = std::fs::read_link(chip.join("device")).ok();
        let device =
            device.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let Some(chip_name) = line(&chip.join("name")).or(device.clone()) else { continue };
        let chip_name = match device {
            Some(device) if device != chip_name => format!("{chip_name}/{device}"),
            _ => chip_name,
        };
        for input in entries(&chip) {
            let Some(file) = input.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(which) = file.strip_suffix("_input").filter(|which| which.starts_with("temp")) else {
                continue;
            };
            let label = line(&chip.join(format!("{which}_label"))).unwrap_or_else(|| which.to_owned());
            let fault = Some(chip.join(format!("{which}_fault"))).filter(|path| path.exists());
            add(&mut sensors, format!("{chip_name}/{label}"), input.clone(), fault);
        }
    }
    for zone in entries(&sysfs.join("class/thermal")) {
        let name = zone.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.starts_with("thermal_zone")
            && let Some(kind) = line(&zone.join("type"))
        {
            add(&mut sensors, format!("{name}/{kind}"), zone.join("temp"), None);
        }
    }
    sensors.truncate(max);
    sensors
}

/// Two of the same name get a number.
fn add(sensors: &mut Vec<Sensor>, name: String, input: PathBuf, fault: Option<PathBuf>) {
    let same = sensors
        .iter()
        .filter(|sensor| sensor.name == name || sensor.name.starts_with(&format!("{name}#")))
        .count();
    let name = if same == 0 { name } else { format!("{name}#{}", same + 1) };
    sensors.push(Sensor { name, input, fault });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_are_named_by_device_and_label_and_faulty_ones_say_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, content: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        put("class/hwmon/hwmon3/name", "coretemp\n");
        put("class/hwmon/hwmon3/temp1_input", "45500\n");
        put("class/hwmon/hwmon3/temp1_label", "Package id 0\n");
        put("class/hwmon/hwmon3/temp2_input", "1000\n");
        put("class/hwmon/hwmon3/temp2_fault", "1\n");
        put("class/hwmon/hwmon3/temp3_input", "99999999\n");
        put("class/hwmon/hwmon3/fan1_input", "1200\n");
        std::os::unix::fs::symlink("../../devices/coretemp.0", dir.path().join("class/hwmon/hwmon3/device"))
            .unwrap();
        put("class/thermal/thermal_zone0/type", "cpu-thermal\n");
        put("class/thermal/thermal_zone0/temp", "-12000\n");
        let sensors = find(dir.path(), 64);
        let read: Vec<_> = sensors.iter().map(|sensor| (sensor.name.as_str(), sensor.read())).collect();
        assert_eq!(
            read,
            [
                ("coretemp/coretemp.0/Package id 0", Some(45.5)),
                ("coretemp/coretemp.0/temp2", None),
                ("coretemp/coretemp.0/temp3", None),
                ("thermal_zone0/cpu-thermal", Some(-12.0)),
            ]
        );
        assert_eq!(find(dir.path(), 1).len(), 1);
        assert!(find(Path::new("/nowhere"), 9).is_empty());
    }
}
