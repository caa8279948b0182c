package door

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"cloche/guest/internal/wire"
)

const (
	maxLine   = 64 << 10
	waitWrite = 10 * time.Second
)

var errNoControl error = wire.Errorf("wrong_state", "no door listens to this sandbox now: the control stream comes first")

// asked is what goes to the door, told is what comes from it. `Op` says which fields count.
type asked struct {
	Op      string  `json:"op"`
	ID      uint64  `json:"id,omitempty"`
	Streams int     `json:"streams,omitempty"`
	Name    *string `json:"name,omitempty"`
	Message []byte  `json:"message,omitempty"`
}

// named has a null where there is no name.
type named struct {
	Op   string  `json:"op"`
	ID   uint64  `json:"id"`
	Name *string `json:"name"`
}

type told struct {
	Op      string `json:"op"`
	ID      uint64 `json:"id"`
	Verdict string `json:"verdict"`
	Message []byte `json:"message"`
	Address string `json:"address"`
}

// controls is the one control stream that counts, and the questions that are open on it.
type controls struct {
	door *Door

	mu        sync.Mutex
	now       *control
	came      chan struct{} // closed by the next one
	last      uint64
	questions map[uint64]question
	patience  time.Duration
}

// control is one control stream.
type control struct {
	conn    net.Conn
	writing sync.Mutex
	gone    chan struct{}
}

func (c *controls) init(d *Door) {
	c.door, c.questions, c.came, c.patience = d, map[uint64]question{}, make(chan struct{}), waitControl
}

// Control serves a control stream until it ends. It replaces the one before, whose parked streams end with it. It counts
// before greet has told the door that it does: what the door sends after that may come at once.
func (d *Door) Control(conn Stream, ahead io.Reader, greet func() error) {
	mine := &control{conn: conn, gone: make(chan struct{})}
	mine.writing.Lock()
	d.control.replace(mine)
	err := greet()
	mine.writing.Unlock()
	if err != nil {
		d.control.lost(mine)
		return
	}
	go d.tellNeeds(mine)
	hear(ahead, func(line []byte) error { return d.control.heard(mine, line) })
	d.control.lost(mine)
}

// replace makes a stream the one that counts, none for nil.
func (c *controls) replace(mine *control) {
	c.mu.Lock()
	before := c.now
	c.now = mine
	if before != nil {
		c.abandon(before)
	}
	c.door.parked.drop()
	if mine != nil {
		close(c.came)
		c.came = make(chan struct{})
	}
	c.mu.Unlock()
	if mine != nil {
		c.door.parked.ask() // for those who waited for a door
	}
}

// lost ends a stream, and with it what hangs on it if it is still the one that counts.
func (c *controls) lost(mine *control) {
	_ = mine.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == mine {
		c.now = nil
		c.abandon(mine)
		c.door.parked.drop()
	}
}

// Park keeps a stream of the door that is connected now.
func (d *Door) Park(stream Stream) error {
	d.control.mu.Lock()
	defer d.control.mu.Unlock()
	if d.control.now == nil {
		return errNoControl
	}
	return d.parked.add(stream)
}

// MayPark is nil when a stream would be parked.
func (d *Door) MayPark() error {
	if !d.Attached() {
		return errNoControl
	}
	return d.parked.mayAdd()
}

// Attached tells whether a door is connected.
func (d *Door) Attached() bool {
	d.control.mu.Lock()
	defer d.control.mu.Unlock()
	return d.control.now != nil
}

// heard takes one line of the door's.
func (c *controls) heard(mine *control, line []byte) error {
	var said told
	if err := json.Unmarshal(line, &said); err != nil {
		return err
	}
	switch said.Op {
	case "name":
		return mine.send(named{"named", said.ID, c.door.nameOf(said.Address)})
	case "resolved", "answer":
		c.answered(mine, said)
	}
	return nil // an operation of a newer door is none of this one's
}

func (d *Door) nameOf(address string) *string {
	parsed, err := netip.ParseAddr(address)
	if err != nil {
		return nil
	}
	if name, ok := d.names.name(parsed.Unmap()); ok {
		return &name
	}
	return nil
}

// tellNeeds says how many streams are wanted, whenever more are.
func (d *Door) tellNeeds(mine *control) {
	for {
		select {
		case <-mine.gone:
			return
		case <-d.parked.kick:
		}
		wanted := d.parked.wanted()
		if wanted > 0 && mine.send(asked{Op: "need", Streams: wanted}) != nil {
			d.control.lost(mine)
			d.parked.ask() // the door that came after this one, if there is one already
			return
		}
	}
}

func (c *control) send(what any) error {
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	if len(line) >= maxLine {
		return errors.New("a line for the door is too long")
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(waitWrite))
	_, err = c.conn.Write(append(line, '\n'))
	return err
}

// hear calls take with each line until the stream ends, or says what it may not.
func hear(from io.Reader, take func(line []byte) error) {
	reader := bufio.NewReader(from)
	var line []byte
	for {
		piece, err := reader.ReadSlice('\n')
		line = append(line, piece...)
		if len(line) > maxLine || (err != nil && err != bufio.ErrBufferFull) {
			return
		}
		if err == nil {
			if take(line) != nil {
				return
			}
			line = line[:0]
		}
	}
}
