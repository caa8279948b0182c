package door

import (
	"errors"
	"time"
)

const (
	maxQuestions = 256
	waitAnswer   = 15 * time.Second
	// a resolver gives up after 5 s
	waitControl = 4 * time.Second
)

// question is one that the door has been asked and has not answered.
type question struct {
	on     *control
	answer chan told
}

// ask sends one question and waits for its answer. A door that has only just begun, or begins anew, is waited for: the
// first thing that code does is to ask for a name.
func (c *controls) ask(what asked) (told, error) {
	until := time.Now().Add(c.patience)
	for {
		said, err := c.askNow(what)
		if !errors.Is(err, errNoControl) || !c.await(until) {
			return said, err
		}
	}
}

// await is whether there is a control stream before that time.
func (c *controls) await(until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		c.mu.Lock()
		there, came := c.now != nil, c.came
		c.mu.Unlock()
		if !c.door.open.Load() || !time.Now().Before(until) {
			return false
		}
		if there {
			return true
		}
		select {
		case <-came:
		case <-timer.C:
			return false
		}
	}
}

func (c *controls) askNow(what asked) (told, error) {
	mine, id, answer, err := c.open()
	if err != nil {
		return told{}, err
	}
	defer c.close(id)
	what.ID = id
	if err := mine.send(what); err != nil {
		c.lost(mine)
		return told{}, errNoControl
	}
	timer := time.NewTimer(waitAnswer)
	defer timer.Stop()
	select {
	case said, ok := <-answer:
		if !ok {
			return told{}, errNoControl
		}
		return said, nil
	case <-timer.C:
		return told{}, errNoControl
	}
}

func (c *controls) open() (mine *control, id uint64, answer chan told, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		return nil, 0, nil, errNoControl
	}
	if len(c.questions) >= maxQuestions {
		return nil, 0, nil, errTooMany
	}
	c.last++
	answer = make(chan told, 1)
	c.questions[c.last] = question{c.now, answer}
	return c.now, c.last, answer, nil
}

func (c *controls) close(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.questions, id)
}

func (c *controls) answered(mine *control, said told) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if open, ok := c.questions[said.ID]; ok && open.on == mine {
		delete(c.questions, said.ID)
		open.answer <- said
	}
}

// abandon ends the questions that nobody will answer. The lock is held.
func (c *controls) abandon(mine *control) {
	close(mine.gone)
	_ = mine.conn.Close()
	for id, open := range c.questions {
		if open.on == mine {
			delete(c.questions, id)
			close(open.answer)
		}
	}
}
