//! Bounds the part of an answer that the kernel holds, which the hub does not count.

use actix_rt::net::TcpStream;

/// Bytes that the kernel accepts beyond those that it has sent: 1 ms at 1 Gbit/s. By default it accepts up to 4 MiB for each
/// connection whose peer does not read. Sent bytes that wait for an acknowledgement are not in it, so that a fast or distant
/// reader is not slowed down.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 128 << 10;

/// Limits the unsent bytes of an accepted connection; the rest waits in the hub, where it counts.
#[cfg(target_os = "linux")]
pub(super) fn bound_send_queue(stream: &TcpStream) {
    // Without the option a socket works too, with more memory.
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT);
}

#[cfg(not(target_os = "linux"))]
pub(super) fn bound_send_queue(_: &TcpStream) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::ErrorKind;

    use tokio::net::TcpListener;

    use super::*;

    /// A24: the kernel buffers few bytes of an answer that the client does not read; all of it arrives when the client reads.
    #[actix_rt::test]
    async fn unsent_bytes_in_the_kernel_are_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let connecting = socket.connect(listener.local_addr().unwrap());
        let (reader, accepted) = futures_util::join!(connecting, listener.accept());
        let (reader, stream) = (reader.unwrap(), accepted.unwrap().0);
        bound_send_queue(&stream);
        let piece = [0; 16 << 10];
        let mut taken = 0;
        loop {
            stream.writable().await.unwrap();
            match stream.try_write(&piece) {
                Ok(bytes) => taken += bytes,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert!(taken <= 2 * MAX_UNSENT as usize, "{taken} bytes");
        drop(stream);
        let mut came = 0;
        let mut bytes = vec![0; 64 << 10];
        while came < taken {
            reader.readable().await.unwrap();
            match reader.try_read(&mut bytes) {
                Ok(read) => came += read,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!(came, taken);
    }
}
