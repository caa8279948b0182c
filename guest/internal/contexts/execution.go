package contexts

import (
	"sync"
	"time"

	"cloche/guest/internal/procs"
	"cloche/guest/internal/wire"
)

// Execution is one piece of code from its arrival until it is forgotten.
type Execution struct {
	id      string
	spec    *wire.CodeSpec
	context *Context
	log     *eventLog
	// The rest is the context's: its lock guards it.
	number  int
	started time.Time
	timer   *time.Timer
	asked   bool // to be interrupted
	expired bool
	once    sync.Once
}

func newExecution(c *Context, spec *wire.CodeSpec) *Execution {
	return &Execution{id: procs.NewID("x"), spec: spec, context: c, log: newLog(&c.manager.rings)}
}

// Open attaches a reader of the events above after.
func (x *Execution) Open(after int, follow bool) *Reader {
	return x.log.open(after, follow, x.abandoned)
}

// reconnectWithin is how long code that is to end with its readers waits for another one: a node that was killed is
// replaced by its clients within that time.
var reconnectWithin = 10 * time.Second

// abandoned: its last reader has gone.
func (x *Execution) abandoned() {
	if x.spec.OnDisconnect == "interrupt" {
		time.AfterFunc(reconnectWithin, func() {
			if x.log.unread() {
				_ = x.Interrupt()
			}
		})
	}
}

// Interrupt stops it, or takes it out of the queue. The error is `wrong_state` when it has ended.
func (x *Execution) Interrupt() error { return x.context.interrupt(x) }

// begin says that it runs and arms its timeout. The context's lock is held.
func (x *Execution) begin(number int) {
	x.number, x.started = number, time.Now()
	x.context.manager.rings.running.Add(1)
	x.log.append(true, startedEvent(number, procs.Seconds(x.started)))
	if x.spec.TimeoutSeconds != nil {
		after := time.Duration(*x.spec.TimeoutSeconds * float64(time.Second))
		x.timer = time.AfterFunc(after, func() { x.context.expire(x) })
	}
}

// finish is the last step of every execution, once.
func (x *Execution) finish(status string, kept bool, limit string) {
	x.once.Do(func() {
		if x.timer != nil {
			x.timer.Stop()
		}
		wall := 0.0
		if !x.started.IsZero() {
			x.context.manager.rings.running.Add(-1)
			wall = time.Since(x.started).Seconds()
		}
		x.log.append(true, endedEvent(status, kept, wall, limit))
		x.log.finish()
		x.context.manager.retire(x)
	})
}
