//! "Come back in N seconds" as gRPC says it: google.rpc.RetryInfo in the details of a status.
//! Source: googleapis `google/rpc/status.proto`, `error_details.proto`.

use std::time::Duration;

use prost::Message;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// When the other side asks to be tried again; `None` when it doesn't say.
pub(crate) fn after(status: &tonic::Status) -> Option<Duration> {
    let details = Details::decode(status.details()).ok()?.details;
    let info = details.into_iter().find(|any| any.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_info_in_a_status_is_read_and_anything_else_is_none() {
        let info = RetryInfo { retry_delay: Some(Delay { seconds: 5, nanos: 250_000_000 }) };
        let any = Any { type_url: RETRY_INFO.into(), value: info.encode_to_vec() };
        let details = Details { details: vec![Any::default(), any] }.encode_to_vec();
        let status =
            |details: Vec<u8>| tonic::Status::with_details(tonic::Code::Unavailable, "busy", details.into());
        assert_eq!(after(&status(details)), Some(Duration::from_millis(5250)));
        assert_eq!(after(&status(b"\xff\xff".to_vec())), None);
        assert_eq!(after(&tonic::Status::unavailable("busy")), None);
    }

    #[test]
    fn what_the_collector_writes_is_what_is_read() {
        // As collector/src/telemetryx/gateway/refusal.py writes retry_info(14, "busy", 1500).
        let mut written = vec![0x08, 14, 0x12, 4];
        written.extend(b"busy");
        let delay = [0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
        let mut any = vec![0x0a, RETRY_INFO.len() as u8];
        any.extend(RETRY_INFO.as_bytes());
        any.extend([0x12, delay.len() as u8 + 2, 0x0a, delay.len() as u8]);
        any.extend(delay);
        written.extend([0x1a, any.len() as u8]);
        written.extend(any);
        let status = tonic::Status::with_details(tonic::Code::Unavailable, "busy", written.into());
        assert_eq!(after(&status), Some(Duration::from_millis(1500)));
    }
}
