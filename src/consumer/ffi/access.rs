//! What a client shows to brokers, and why they do not take it.

use std::ffi::{CString, c_char};

use rdkafka::client::ClientContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as rdsys;

use super::{Client, text};
use crate::consumer::context::Context;

type Native = rdkafka::client::Client<Context>;

/// New connections show this password; those that are open are kept.
pub(crate) fn set_credentials(client: &Native, user: &str, password: &str) -> Result<(), String> {
    let [user, password] = [user, password].map(CString::new);
    let (Ok(user), Ok(password)) = (user, password) else { return Err("a zero byte is no text".to_owned()) };
    // SAFETY: the client is valid; both strings are copied; the error, if there is one, is ours to destroy.
    unsafe {
        let error =
            rdsys::rd_kafka_sasl_set_credentials(client.native_ptr(), user.as_ptr(), password.as_ptr());
        if error.is_null() {
            return Ok(());
        }
        let why = text(rdsys::rd_kafka_error_string(error));
        rdsys::rd_kafka_error_destroy(error);
        Err(why)
    }
}

/// New connections, and those that authenticate again (KIP-368), show this token.
pub(crate) fn set_token<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    token: &str,
    expires_ms: i64,
    principal: &str,
    extensions: &[(String, String)],
) -> Result<(), String> {
    let [token, principal] = [token, principal].map(CString::new);
    let pairs = extensions.iter().flat_map(|(name, value)| [name, value]);
    let extensions: Result<Vec<CString>, _> = pairs.map(|text| CString::new(text.as_str())).collect();
    let (Ok(token), Ok(principal), Ok(extensions)) = (token, principal, extensions) else {
        return Err("a zero byte is no text".to_owned());
    };
    // Names and values in turn.
    let mut extensions: Vec<*const c_char> = extensions.iter().map(|text| text.as_ptr()).collect();
    // Not told: it quotes the token.
    let mut why = [0; 512];
    // SAFETY: the client is valid; the strings, which outlive the call, are copied; `extensions` and `why` are as long
    // as they are said to be.
    unsafe {
        let code = rdsys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            token.as_ptr(),
            expires_ms,
            principal.as_ptr(),
            extensions.as_mut_ptr(),
            extensions.len(),
            why.as_mut_ptr(),
            why.len(),
        );
        super::error_code(code).map_or(Ok(()), |_| Err("the Kafka client does not take the token".to_owned()))
    }
}

/// Why brokers refused a client that nobody polls, as it has said since it was asked last: its credentials, or TLS. Its log
/// is passed on.
pub(crate) fn refusal(client: &Client) -> Option<(RDKafkaErrorCode, String)> {
    let mut found = None;
    // SAFETY: the client is valid; events and the reference to its queue are released once each, and nothing of an event is
    // kept.
    unsafe {
        let queue = rdsys::rd_kafka_queue_get_main(client.client().native_ptr());
        loop {
            let event = rdsys::rd_kafka_queue_poll(queue, 0);
            if event.is_null() {
                break;
            }
            super::log::pass_on(event, client.context().as_ref());
            if rdsys::rd_kafka_event_type(event) == rdsys::RD_KAFKA_EVENT_ERROR {
                let why = text(rdsys::rd_kafka_event_error_string(event));
                if let Some(code) = refused(rdsys::rd_kafka_event_error(event).into(), &why) {
                    found = Some((code, why));
                }
            }
            rdsys::rd_kafka_event_destroy(event);
        }
        rdsys::rd_kafka_queue_destroy(queue);
    }
    found
}

/// Whether an error says that client and broker do not trust each other, and as what it counts: a broker that does not
/// take a client's certificate says so by an alert after the handshake (TLS 1.3), which the client calls a lost
/// connection. One that was lost in the middle of a handshake it calls refused credentials (`rdkafka_broker.c`,
/// `rdkafka_ssl.c`).
pub(crate) fn refused(code: RDKafkaErrorCode, text: &str) -> Option<RDKafkaErrorCode> {
    use RDKafkaErrorCode as Code;
    match code {
        _ if is_cut_short(text) => None,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => Some(code),
        Code::BrokerTransportFailure if text.contains("SSL") && text.contains(" alert ") => Some(Code::SSL),
        _ => None,
    }
}

/// Whether a connection was lost in the middle of a handshake, whatever its code says.
pub(crate) fn is_cut_short(text: &str) -> bool {
    ["handshake failed: Local: ", "SSL transport error"].iter().any(|lost| text.contains(lost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_no_lost_connection() {
        use RDKafkaErrorCode as Code;
        let alert = "Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert number 116";
        assert_eq!(refused(Code::BrokerTransportFailure, alert), Some(Code::SSL));
        assert_eq!(refused(Code::BrokerTransportFailure, "Disconnected (after 3 ms in state UP)"), None);
        assert_eq!(refused(Code::AllBrokersDown, "2/2 brokers are down"), None);
        assert_eq!(refused(Code::Authentication, ""), Some(Code::Authentication));
        let cut = "SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: (n/a)";
        assert_eq!(refused(Code::Authentication, cut), None, "a broker that was stopped");
        let cut = "SSL handshake failed: SSL transport error: Broken pipe";
        assert_eq!(refused(Code::SSL, cut), None);
    }
}
