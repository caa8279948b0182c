package door

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const maxRequestLine = 4096

// serveProxy hands a client of the HTTP proxy to the door, which reads the requests itself.
func (d *Door) serveProxy(code *net.TCPConn) {
	if !d.open.Load() {
		d.refuseProxy(code)
		return
	}
	wanted := &head{Kind: "proxy"}
	wanted.Pid, wanted.Process = d.ownerOf(code)
	stream, err := d.begin(wanted)
	if err != nil {
		answerProxy(code, "503 Service Unavailable", "unavailable", err.Error())
		return
	}
	relay(code, stream)
}

// refuseProxy reads what was wanted, to remember it, and says no.
func (d *Door) refuseProxy(code *net.TCPConn) {
	_ = code.SetDeadline(time.Now().Add(handshake))
	if host, port, ok := proxied(requestLine(code)); ok {
		d.attempts.add(host, port, "tcp")
	}
	answerProxy(code, "403 Forbidden", "egress_denied", "this sandbox is closed: nothing in it reaches a network")
}

func requestLine(code net.Conn) string {
	var line [maxRequestLine]byte
	for n := 0; n < len(line); {
		more, err := code.Read(line[n:])
		n += more
		if end := bytes.IndexByte(line[:n], '\n'); end >= 0 {
			return strings.TrimRight(string(line[:end]), "\r")
		}
		if err != nil {
			break
		}
	}
	return ""
}

// proxied is the host of `CONNECT host:port HTTP/1.1` or `GET http://host/ HTTP/1.1`.
func proxied(line string) (host string, port int, ok bool) {
	fields := strings.Split(line, " ")
	if len(fields) != 3 {
		return "", 0, false
	}
	authority, missing := fields[1], ""
	if fields[0] != "CONNECT" {
		target, err := url.Parse(fields[1])
		if err != nil {
			return "", 0, false
		}
		authority, missing = target.Host, map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	return splitAuthority(authority, missing)
}

func splitAuthority(authority, missing string) (host string, port int, ok bool) {
	host, digits, err := net.SplitHostPort(authority)
	if err != nil {
		host, digits = strings.Trim(authority, "[]"), missing
	}
	port, err = strconv.Atoi(digits)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, false
	}
	host, ok = cleanHost(host)
	return host, port, ok
}

// answerProxy sends a whole answer. What the client has sent already is read a little, or its reset would overtake it.
func answerProxy(code *net.TCPConn, status, reason, message string) {
	body, _ := json.Marshal(map[string]any{"error": map[string]string{"code": reason, "message": message}})
	_ = code.SetDeadline(time.Now().Add(handshake))
	_, _ = fmt.Fprintf(code, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, len(body), body)
	_ = code.CloseWrite()
	drain(code)
}

const lastWords = time.Second

func drain(code *net.TCPConn) {
	end := time.Now().Add(lastWords)
	_ = code.SetReadDeadline(end)
	var buf [firstBytes]byte
	for time.Now().Before(end) {
		if _, err := code.Read(buf[:]); err != nil {
			return
		}
	}
}

const firstBytes = 2 << 10
