package box

import "syscall"

// descriptorsAtOnce is below the kernel's bound for one message (SCM_MAX_FD, 253).
const descriptorsAtOnce = 200

// sendDescriptors lends descriptors to the other end.
func sendDescriptors(socket int, lent []int) error {
	for rest := lent; len(rest) > 0; {
		batch := rest[:min(len(rest), descriptorsAtOnce)]
		if err := syscall.Sendmsg(socket, []byte{'d'}, syscall.UnixRights(batch...), nil, 0); err != nil {
			return err
		}
		rest = rest[len(batch):]
	}
	return nil
}

// takeDescriptors waits for as many as were announced; they close on exec.
func takeDescriptors(socket, count int) ([]int, error) {
	var taken []int
	for len(taken) < count {
		_, fds, err := receive(socket)
		if err != nil {
			return nil, err
		}
		if len(fds) == 0 {
			return nil, syscall.EPIPE
		}
		taken = append(taken, fds...)
	}
	return taken, nil
}

func receive(socket int) ([]byte, []int, error) {
	body, rights := make([]byte, 64<<10), make([]byte, syscall.CmsgSpace(4*descriptorsAtOnce))
	n, nr, _, _, err := syscall.Recvmsg(socket, body, rights, syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:nr])
	if err != nil || len(messages) == 0 {
		return body[:n], nil, err
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	return body[:n], fds, err
}
