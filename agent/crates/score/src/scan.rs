//! A look over an ONNX file before it is decoded: counts what would be allocated.
//!
//! Two bytes of an empty message become a struct of some hundred bytes, so the size of the file alone
//! doesn't bound the memory that decoding it takes. This walk allocates nothing.

use crate::LoadError;

/// Largest file.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Most nodes, and most initializers.
pub(crate) const MAX_NODES: usize = 512;
/// Most inputs, outputs or attributes of a node; most imported operator sets.
const MAX_PER_NODE: usize = 64;
/// Longest declaration of an input or output of the graph.
const MAX_DECLARATION: usize = 1 << 12;

/// One field of a message; varints and fixed widths have no bytes.
struct Field<'a> {
    number: u64,
    bytes: &'a [u8],
}

struct Fields<'a> {
    rest: &'a [u8],
}

fn broken() -> LoadError {
    LoadError::Format("the file is not an ONNX model: its bytes aren't Protocol Buffers".to_owned())
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, LoadError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or_else(broken)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken())
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8], LoadError> {
        let n = usize::try_from(n).map_err(|_| broken())?;
        let (head, tail) = self.rest.split_at_checked(n).ok_or_else(broken)?;
        self.rest = tail;
        Ok(head)
    }

    fn read(&mut self) -> Result<Field<'a>, LoadError> {
        let tag = self.varint()?;
        let mut bytes: &[u8] = &[];
        match tag & 7 {
            0 => {
                self.varint()?;
            }
            1 => {
                self.take(8)?;
            }
            2 => {
                let n = self.varint()?;
                bytes = self.take(n)?;
            }
            5 => {
                self.take(4)?;
            }
            _ => return Err(broken()),
        }
        Ok(Field { number: tag >> 3, bytes })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() { None } else { Some(self.read()) }
    }
}

fn limit(count: &mut usize, most: usize, what: &str) -> Result<(), LoadError> {
    *count += 1;
    if *count > most {
        return Err(LoadError::Limit(format!("more than {most} {what}")));
    }
    Ok(())
}

/// Refuses a file whose decoding would take more memory than its models are worth.
pub(crate) fn check(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.len() > MAX_BYTES {
        return Err(LoadError::Limit(format!("{} bytes; at most {MAX_BYTES} are taken", bytes.len())));
    }
    let (mut opsets, mut graphs) = (0, 0);
    for field in (Fields { rest: bytes }) {
        let field = field?;
        match field.number {
            7 => {
                limit(&mut graphs, 1, "graph")?;
                graph(field.bytes)?;
            }
            8 => limit(&mut opsets, MAX_PER_NODE, "imported operator sets")?,
            _ => {}
        }
    }
    Ok(())
}

fn graph(bytes: &[u8]) -> Result<(), LoadError> {
    let (mut nodes, mut initializers, mut declarations) = (0, 0, 0);
    for field in (Fields { rest: bytes }) {
        let field = field?;
        match field.number {
            1 => {
                limit(&mut nodes, MAX_NODES, "nodes")?;
                node(field.bytes)?;
            }
            5 => limit(&mut initializers, MAX_NODES, "initializers")?,
            11 | 12 => {
                limit(&mut declarations, 2 * MAX_NODES, "inputs and outputs")?;
                if field.bytes.len() > MAX_DECLARATION {
                    return Err(LoadError::Limit(format!(
                        "an input or output is declared in more than {MAX_DECLARATION} bytes"
                    )));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn node(bytes: &[u8]) -> Result<(), LoadError> {
    let mut parts = 0;
    for field in (Fields { rest: bytes }) {
        if matches!(field?.number, 1 | 2 | 5) {
            limit(&mut parts, MAX_PER_NODE, "inputs, outputs and attributes of one node")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_empty_nodes_is_refused_before_it_is_decoded() {
        let mut graph = Vec::new();
        for _ in 0..=MAX_NODES {
            graph.extend_from_slice(&[0x0a, 0]);
        }
        let mut model = vec![0x3a, (graph.len() & 0x7f) as u8 | 0x80, (graph.len() >> 7) as u8];
        model.extend(graph);
        let error = check(&model).unwrap_err().to_string();
        assert!(error.contains("more than 512 nodes"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_messages_are_refused() {
        assert!(check(b"GET / HTTP/1.1").is_err());
        assert!(check(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
        assert!(check(&vec![0; MAX_BYTES + 1]).unwrap_err().to_string().contains("at most"));
    }
}
