package door

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// What SOCKS 5 (RFC 1928) calls them.
const (
	socksVersion      = 5
	socksNoSecret     = 0
	socksNoMethod     = 0xff
	socksConnect      = 1
	socksIPv4         = 1
	socksName         = 3
	socksIPv6         = 4
	socksDone         = 0
	socksFailed       = 1
	socksForbidden    = 2
	socksUnreachable  = 4
	socksRefused      = 5
	socksNoCommand    = 7
	socksNoAddressing = 8
)

var errSOCKS = errors.New("this is no SOCKS 5")

// socksError is a refusal with its reply.
type socksError byte

func (e socksError) Error() string { return "refused by the SOCKS server" }

func (d *Door) serveSOCKS(code *net.TCPConn) {
	_ = code.SetDeadline(time.Now().Add(handshake))
	host, port, err := socksHandshake(code)
	var refusal socksError
	if errors.As(err, &refusal) {
		socksReply(code, byte(refusal))
	}
	if err != nil {
		return
	}
	if host, err = d.socksHost(host, port); err != nil {
		socksReply(code, socksForbidden)
		return
	}
	d.connectSOCKS(code, host, port)
}

// socksHost is where to go, remembered when that is nowhere.
func (d *Door) socksHost(host string, port int) (string, error) {
	known := true
	if address, err := netip.ParseAddr(host); err == nil {
		host, known = d.hostOf(address)
	}
	if !d.open.Load() {
		d.attempts.add(host, port, "tcp")
		return "", errRefused
	}
	if !known {
		return "", errRefused
	}
	return host, nil
}

func (d *Door) connectSOCKS(code *net.TCPConn, host string, port int) {
	wanted := &head{Kind: "connect", Host: host, Port: port, Via: "socks"}
	wanted.Pid, wanted.Process = d.ownerOf(code)
	stream, err := d.begin(wanted)
	if err != nil {
		socksReply(code, socksFailed)
		return
	}
	// it may take as long as the door likes: a person may be asked
	_ = code.SetDeadline(time.Time{})
	answer, err := readVerdict(stream)
	if err != nil || !answer.OK {
		_ = stream.Close()
		socksReply(code, replyFor(answer, err))
		return
	}
	if socksReply(code, socksDone) != nil {
		_ = stream.Close()
		return
	}
	join(code, stream)
}

func replyFor(answer verdict, err error) byte {
	switch {
	case err != nil:
		return socksFailed
	case answer.Code == "failed":
		return socksRefused
	case answer.Code == "limit":
		return socksUnreachable
	}
	return socksForbidden
}

// socksHandshake reads a greeting and a request. Its error is a socksError where the client is owed a reply.
func socksHandshake(code io.ReadWriter) (host string, port int, err error) {
	if err := socksGreeting(code); err != nil {
		return "", 0, err
	}
	var request [4]byte
	if _, err := io.ReadFull(code, request[:]); err != nil {
		return "", 0, err
	}
	if request[0] != socksVersion {
		return "", 0, errSOCKS
	}
	host, err = socksAddress(code, request[3])
	if err != nil {
		return "", 0, err
	}
	var portBytes [2]byte
	if _, err := io.ReadFull(code, portBytes[:]); err != nil {
		return "", 0, err
	}
	port = int(portBytes[0])<<8 | int(portBytes[1])
	clean, ok := cleanHost(host)
	switch {
	case request[1] != socksConnect:
		return "", 0, socksError(socksNoCommand)
	case !ok || port == 0:
		return "", 0, socksError(socksUnreachable)
	}
	return clean, port, nil
}

func socksGreeting(code io.ReadWriter) error {
	var greeting [2]byte
	if _, err := io.ReadFull(code, greeting[:]); err != nil {
		return err
	}
	if greeting[0] != socksVersion {
		return errSOCKS
	}
	methods := make([]byte, greeting[1])
	if _, err := io.ReadFull(code, methods); err != nil {
		return err
	}
	for _, method := range methods {
		if method == socksNoSecret {
			_, err := code.Write([]byte{socksVersion, socksNoSecret})
			return err
		}
	}
	_, _ = code.Write([]byte{socksVersion, socksNoMethod})
	return errSOCKS
}

func socksAddress(code io.Reader, kind byte) (string, error) {
	size := map[byte]int{socksIPv4: 4, socksIPv6: 16}[kind]
	if kind == socksName {
		var length [1]byte
		if _, err := io.ReadFull(code, length[:]); err != nil {
			return "", err
		}
		size = int(length[0])
	} else if size == 0 {
		return "", socksError(socksNoAddressing)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(code, raw); err != nil {
		return "", err
	}
	if address, ok := netip.AddrFromSlice(raw); ok && kind != socksName {
		return address.Unmap().String(), nil
	}
	return string(raw), nil
}

// socksReply says how it went; the address in it means nothing.
func socksReply(code net.Conn, result byte) error {
	_ = code.SetWriteDeadline(time.Now().Add(handshake))
	_, err := code.Write([]byte{socksVersion, result, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
	if err == nil {
		err = code.SetWriteDeadline(time.Time{})
	}
	return err
}
