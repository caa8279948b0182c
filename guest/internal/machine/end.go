package machine

import (
	"fmt"
	"os"
	"syscall"
)

// End ends the virtual machine after everything is on its disk. The guest's last line on the console is how the host
// tells it from a crash: `cloche-guest: ended 0`.
func (m *Machine) End(code int) {
	_ = m.Group.Thaw()
	_, _, _ = syscall.Syscall(nrSyncfs, uintptr(m.Disk), 0, 0)
	_ = syscall.Mount("", fmt.Sprintf("/proc/self/fd/%d", m.Disk), "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	PowerOff(fmt.Sprintf("ended %d", code))
}

// PowerOff says a last line and never returns. PID 1 may not just exit: that would be a panic of the kernel.
func PowerOff(last string) {
	_, _ = os.Stderr.WriteString("cloche-guest: " + last + "\n")
	syscall.Sync()
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	select {}
}
