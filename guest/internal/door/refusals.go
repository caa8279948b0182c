package door

import (
	"net/netip"
	"syscall"

	"cloche/guest/internal/refusals"
)

// refusal is what the kernel refused in here, told to the door: UDP, pings, and whatever else never leaves.
type refusal struct {
	Op       string `json:"op"`
	Host     string `json:"host"`
	Port     int    `json:"port,omitempty"`
	Protocol string `json:"protocol"`
	Count    int    `json:"count"`
	Pid      int    `json:"pid,omitempty"`
	Process  string `json:"process,omitempty"`
}

// listener hears of them.
type listener struct{ door *Door }

// TellsRefused: what is refused in here is seen.
func (d *Door) TellsRefused() bool { return d.config.RefusalFD > 0 }

func (d *Door) watchRefusals() {
	if d.TellsRefused() {
		go refusals.Watch(d.config.RefusalFD, listener{d})
	}
}

func (l listener) HostOf(address netip.Addr) string {
	host, _ := l.door.hostOf(address.WithZone(""))
	return host
}

// Tell remembers it while nothing is open, as with connections; else the door hears of it.
func (l listener) Tell(heard refusals.Refusal) bool {
	packet := heard.Packet
	said := refusal{Op: "refused", Host: heard.Host, Port: int(packet.To.Port()), Protocol: packet.Protocol, Count: heard.Count}
	if said.Protocol == "" {
		said.Protocol = "other"
	}
	if !l.door.open.Load() {
		l.door.attempts.addMany(said.Host, said.Port, said.Protocol, said.Count)
		return true
	}
	if said.Protocol == "udp" {
		said.Pid, said.Process = l.door.owners.of(syscall.IPPROTO_UDP, packet.From, packet.To)
	}
	return l.door.control.tell(said)
}

// tell says something that needs no answer. False: there is nobody to hear it.
func (c *controls) tell(what any) bool {
	c.mu.Lock()
	now := c.now
	c.mu.Unlock()
	if now == nil {
		return false
	}
	if now.send(what) != nil {
		c.lost(now)
		return false
	}
	return true
}
