package door

import (
	"sort"
	"sync"
	"time"
)

const maxAttempts = 256

// Attempt is what code tried while the sandbox was closed. `Host` is a name or an address; `Port` is 0 for a name that was
// only asked for. `Last` is UTC seconds.
type Attempt struct {
	Host     string  `json:"host"`
	Port     int     `json:"port"`
	Protocol string  `json:"protocol"`
	Count    int     `json:"count"`
	Last     float64 `json:"last"`
}

type tried struct {
	host     string
	port     int
	protocol string
}

// attempts are the newest of them.
type attempts struct {
	mu    sync.Mutex
	known map[tried]*Attempt
}

func (a *attempts) add(host string, port int, protocol string) { a.addMany(host, port, protocol, 1) }

func (a *attempts) addMany(host string, port int, protocol string, count int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = map[tried]*Attempt{}
	}
	key := tried{host, port, protocol}
	known := a.known[key]
	if known == nil {
		a.makeRoom()
		known = &Attempt{Host: host, Port: port, Protocol: protocol}
		a.known[key] = known
	}
	known.Count += count
	known.Last = float64(time.Now().UnixMicro()) / 1e6
}

func (a *attempts) makeRoom() {
	if len(a.known) < maxAttempts {
		return
	}
	var oldest tried
	for key, attempt := range a.known {
		if a.known[oldest] == nil || attempt.Last < a.known[oldest].Last {
			oldest = key
		}
	}
	delete(a.known, oldest)
}

// Attempts returns them, the newest last.
func (d *Door) Attempts() []Attempt {
	a := &d.attempts
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]Attempt, 0, len(a.known))
	for _, attempt := range a.known {
		all = append(all, *attempt)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Last < all[j].Last })
	return all
}
