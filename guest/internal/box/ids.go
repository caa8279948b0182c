package box

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

const ofdSetlk = 37 // F_OFD_SETLK

// chooseIDs finds a free range of host ids. A slot is one byte of the lock file, locked by an open file description that
// lives exactly as long as this supervisor: two boxes never share ids, and no crash can leave a slot taken.
func (s *supervisor) chooseIDs() error {
	ids := &s.plan.IDs
	if ids.Mode != "range" {
		return nil
	}
	fd, err := syscall.Open(ids.Lock, syscall.O_RDWR|syscall.O_CREAT|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return stage("id range lock", err)
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(s.plan.SandboxID))
	first := int(hash.Sum32() % uint32(ids.Slots))
	for i := 0; i < ids.Slots; i++ {
		slot := (first + i) % ids.Slots
		if lockByte(fd, int64(slot)) == nil {
			s.idLock, s.firstID = fd, ids.First+slot*ids.Size
			row := []int{0, s.firstID, ids.Size}
			ids.UIDMap, ids.GIDMap = [][]int{row}, [][]int{row}
			return nil
		}
	}
	_ = syscall.Close(fd)
	return stagef("id range", "all %d id ranges are in use", ids.Slots)
}

func lockByte(fd int, at int64) error {
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: 0, Start: at, Len: 1}
	_, _, e := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), ofdSetlk, uintptr(unsafe.Pointer(&lock)))
	if e != 0 {
		return e
	}
	return nil
}

func (s *supervisor) mapIDs() error {
	ids := s.plan.IDs
	if ids.Mode == "helper" {
		if err := s.runMapHelper(ids.Newgidmap, ids.GIDMap); err != nil {
			return err
		}
		return s.runMapHelper(ids.Newuidmap, ids.UIDMap)
	}
	if ids.Shared() {
		// an ordinary user may map its one gid only after giving setgroups up
		if err := s.writeProc("setgroups", "deny"); err != nil {
			return err
		}
	}
	if err := s.writeProc("gid_map", mapText(ids.GIDMap)); err != nil {
		return err
	}
	return s.writeProc("uid_map", mapText(ids.UIDMap))
}

func (s *supervisor) writeProc(name, text string) error {
	return stage("map ids", writeControl("/proc/"+strconv.Itoa(s.pid)+"/"+name, text))
}

func mapText(rows [][]int) string {
	text := ""
	for _, row := range rows {
		text += fmt.Sprintf("%d %d %d\n", row[0], row[1], row[2])
	}
	return text
}

// runMapHelper calls the distribution's setuid helper, which checks /etc/subuid itself.
func (s *supervisor) runMapHelper(program string, rows [][]int) error {
	args := []string{program, strconv.Itoa(s.pid)}
	for _, row := range rows {
		for _, number := range row {
			args = append(args, strconv.Itoa(number))
		}
	}
	pid, err := syscall.ForkExec(program, args, &syscall.ProcAttr{Files: []uintptr{0, 2, 2}, Env: []string{}})
	if err != nil {
		return stage("map ids", err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status != 0 {
		return stagef("map ids", "%s refused %s", program, strings.TrimSpace(mapText(rows)))
	}
	return nil
}
