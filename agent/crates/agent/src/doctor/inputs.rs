//! The inputs: do they run, or could they open their ports; do their certificates last.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use super::{Finding, link, ok, problem, warning};
use crate::config::{Config, InputsConfig};

/// One input as far as it concerns the host.
struct Door<'a> {
    name: String,
    ports: Vec<SocketAddr>,
    certificate: Option<&'a Path>,
}

/// All checks of the inputs; `status` is the running agent's.
pub fn examine(config: &Config, status: Option<&Value>, now: i64) -> Vec<Finding> {
    let doors = doors(&config.input);
    if doors.is_empty() {
        let remedy = "give the config file an [input.…] section: without one the agent takes nothing in";
        return vec![warning("inputs", "none is configured", remedy)];
    }
    let mut findings = Vec::new();
    if let Some((why, remedy)) = status.and_then(refusing) {
        findings.push(problem("inputs", format!("READINGS ARE REFUSED: {why}"), remedy));
    }
    for (section, found) in crate::inputs_table::warnings(&config.input) {
        let remedy = match section.as_str() {
            "input.mqtt" => "give devices a user, or keep the network to those you trust",
            _ => "see what the sentence says; `telemetryx-agent check` names the line",
        };
        findings.push(warning("input", found, remedy));
    }
    for door in &doors {
        findings.push(match status {
            Some(status) => running(door, status),
            None => openable(door),
        });
        if let Some(path) = door.certificate {
            findings.push(certificate(&door.name, path, now));
        }
    }
    findings
}

/// Why the running agent takes no readings now, and the way out.
fn refusing(status: &Value) -> Option<(&str, &str)> {
    let refusing = &status["refusing"];
    Some((refusing["why"].as_str()?, refusing["remedy"].as_str()?))
}

fn doors(config: &InputsConfig) -> Vec<Door<'_>> {
    let mut doors = Vec::new();
    if let Some(mqtt) = &config.mqtt {
        let ports = [mqtt.listen, mqtt.tls_listen].into_iter().flatten().collect();
        doors.push(Door { name: "mqtt".into(), ports, certificate: mqtt.cert_file.as_deref() });
    }
    for (at, client) in config.mqtt_client.iter().enumerate() {
        let name = format!("mqtt_client.{}", at + 1);
        doors.push(Door { name, ports: Vec::new(), certificate: client.cert_file.as_deref() });
    }
    if let Some(http) = &config.http {
        doors.push(Door {
            name: "http".into(),
            ports: vec![http.listen],
            certificate: http.cert_file.as_deref(),
        });
    }
    if let Some(tcp) = &config.tcp {
        doors.push(Door {
            name: "tcp".into(),
            ports: vec![tcp.listen],
            certificate: tcp.cert_file.as_deref(),
        });
    }
    if config.host.is_some() {
        doors.push(Door { name: "host".into(), ports: Vec::new(), certificate: None });
    }
    doors
}

/// As the running agent says.
fn running(door: &Door<'_>, status: &Value) -> Finding {
    let name = &door.name;
    let inputs = status["inputs"].as_array().into_iter().flatten();
    let Some(input) = inputs.into_iter().find(|input| input["name"] == name.as_str()) else {
        let found = format!("{name} is in the config file, and the running agent doesn't have it");
        return warning("input", found, "restart the agent: inputs are read at its start");
    };
    match input["error"].as_str() {
        Some(error) => {
            problem("input", format!("{name} doesn't run: {error}"), "mend that: it is tried again by itself")
        }
        None => ok("input", format!("{name} runs, {} received", input["received"])),
    }
}

/// Whether the ports could be opened now.
fn openable(door: &Door<'_>) -> Finding {
    for port in &door.ports {
        if let Err(error) = TcpListener::bind(port) {
            let found = format!("{} can't open {port}: {error}", door.name);
            let remedy = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    format!(
                        "stop the other program (ss -ltnp 'sport = :{}'), or choose another port",
                        port.port()
                    )
                }
                std::io::ErrorKind::PermissionDenied => {
                    "choose a port above 1023, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE"
                        .into()
                }
                _ => "choose an address that this host has".into(),
            };
            return problem("input", found, remedy);
        }
    }
    let ports: Vec<String> = door.ports.iter().map(SocketAddr::to_string).collect();
    match ports.is_empty() {
        true => ok("input", format!("{} needs no port", door.name)),
        false => ok("input", format!("{} can open {}", door.name, ports.join(" and "))),
    }
}

fn certificate(name: &str, path: &Path, now: i64) -> Finding {
    let whose = format!("the certificate of {name} ({})", path.display());
    let read = seglog::regular::read_given(path, seglog::regular::LONGEST)
        .map_err(rustls_pki_types::pem::Error::Io)
        .and_then(|text| CertificateDer::from_pem_slice(&text));
    match read.as_ref().map(|der| uplink::certificate::validity(der)) {
        Ok(Some(validity)) => link::certificate("certificate", &whose, validity, now),
        Ok(None) => problem(
            "certificate",
            format!("{whose} can't be understood"),
            "give a PEM file with an X.509 certificate",
        ),
        Err(error) => problem(
            "certificate",
            format!("{whose} can't be read: {error}"),
            "give a PEM file that the agent may read",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Level;
    use super::*;

    fn door(ports: Vec<SocketAddr>) -> Door<'static> {
        Door { name: "http".into(), ports, certificate: None }
    }

    #[test]
    fn a_port_that_another_program_has_is_a_problem_with_its_number() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let finding = openable(&door(vec![address]));
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.remedy.contains(&address.port().to_string()), "{finding:?}");
        drop(taken);
        assert_eq!(openable(&door(vec![address])).level, Level::Ok);
    }

    #[test]
    fn an_agent_that_takes_no_readings_is_a_problem_with_the_way_out() {
        let mut config = Config::default();
        config.input.tcp = Some(inputs::tcp::TcpConfig::default());
        let status = json!({
            "inputs": [{"name": "tcp", "received": 3, "error": null}],
            "refusing": {"cause": "cap", "why": "the journal is full", "remedy": "bring the link back"},
        });
        let findings = examine(&config, Some(&status), 0);
        let problems: Vec<_> = findings.iter().filter(|one| one.level == Level::Problem).collect();
        let [refused] = &problems[..] else { panic!("{findings:?}") };
        assert!(refused.found.contains("the journal is full") && refused.remedy == "bring the link back");
        let status = json!({"inputs": status["inputs"], "refusing": null});
        assert!(examine(&config, Some(&status), 0).iter().all(|one| one.level != Level::Problem));
    }

    #[test]
    fn the_running_agent_is_believed_about_its_inputs() {
        let status = |error: Value| json!({"inputs": [{"name": "http", "received": 3, "error": error}]});
        assert_eq!(running(&door(vec![]), &status(Value::Null)).level, Level::Ok);
        assert_eq!(running(&door(vec![]), &status("no".into())).level, Level::Problem);
        assert_eq!(running(&door(vec![]), &json!({"inputs": []})).level, Level::Warning);
    }
}
