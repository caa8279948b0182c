package refusals

import "time"

const (
	// Window: the same again within it is counted, and told when it is over.
	Window = 5 * time.Second
	// what nobody has heard is told again after so long
	patience = time.Second
	// kinds that are told apart at once; the others share one
	maxKinds = 64
	maxCount = 1_000_000
)

// Many stands for destinations that were too many to be told apart.
const Many = "*"

// Refusal is what was refused so many times since it was last told. Host is a name or an address, or Many. Packet is one
// of those; Many has none.
type Refusal struct {
	Host   string
	Count  int
	Packet Packet
}

type kind struct {
	host     string
	port     uint16
	protocol string
}

type seen struct {
	packet Packet
	count  int
	until  time.Time // it is told then, if there is something to tell
}

// table merges what is refused again and again, so that code which tries for ever makes few words. The zero value is empty.
type table struct {
	known map[kind]*seen
}

// add counts so many of one kind.
func (t *table) add(host string, packet Packet, count int, now time.Time) {
	t.find(host, packet, now).add(count)
}

// again puts back what nobody has heard.
func (t *table) again(refusal Refusal, now time.Time) {
	known := t.find(refusal.Host, refusal.Packet, now)
	known.add(refusal.Count)
	known.until = now.Add(patience)
}

func (t *table) find(host string, packet Packet, now time.Time) *seen {
	if t.known == nil {
		t.known = map[kind]*seen{}
	}
	key := kind{host, packet.To.Port(), packet.Protocol}
	if t.known[key] == nil && len(t.known) >= maxKinds {
		key, packet = kind{host: Many}, Packet{}
	}
	known := t.known[key]
	if known == nil {
		known = &seen{packet: packet, until: now}
		t.known[key] = known
	}
	return known
}

func (s *seen) add(count int) { s.count = min(s.count+count, maxCount) }

// due takes out what is to be told now. What was told is not told again before its window is over.
func (t *table) due(now time.Time) (found []Refusal) {
	for key, known := range t.known {
		if known.until.After(now) {
			continue
		}
		if known.count == 0 {
			delete(t.known, key)
			continue
		}
		found = append(found, Refusal{key.host, known.count, known.packet})
		known.count, known.until = 0, now.Add(Window)
	}
	return found
}

// next is when due has something to do; false: only after another add.
func (t *table) next() (next time.Time, any bool) {
	for _, known := range t.known {
		if !any || known.until.Before(next) {
			next, any = known.until, true
		}
	}
	return next, any
}
