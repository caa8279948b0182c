package vmboot

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	userName = "user"
	userID   = 1000
	userHome = "/home/user"
	rootLine = "root:x:0:0:root:/root:"
)

// addUser: the user that a sandbox runs code as is there, whatever the image knows. What the image says of that name or
// of that home stays.
func addUser(passwd, group string) error {
	shell := "/bin/sh"
	if _, err := os.Stat("/bin/bash"); err == nil {
		shell = "/bin/bash"
	}
	id := strconv.Itoa(userID)
	err := amend(passwd, []string{rootLine + shell, userName + ":x:" + id + ":" + id + "::" + userHome + ":" + shell})
	if err == nil {
		err = amend(group, []string{"root:x:0:", userName + ":x:" + id + ":"})
	}
	if err != nil {
		return err
	}
	return makeHome(userHome)
}

// amend appends the lines whose name has no line yet.
func amend(place string, lines []string) error {
	data, err := os.ReadFile(place)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	text := missingLines(string(data), lines)
	if text == "" {
		return nil
	}
	file, err := os.OpenFile(place, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(text)
	return err
}

// missingLines is what to append to a table so that each line's name is in it.
func missingLines(table string, lines []string) string {
	known := map[string]bool{}
	for _, line := range strings.Split(table, "\n") {
		name, _, _ := strings.Cut(line, ":")
		known[name] = true
	}
	var more strings.Builder
	for _, line := range lines {
		if name, _, _ := strings.Cut(line, ":"); !known[name] {
			more.WriteString(line + "\n")
		}
	}
	if more.Len() > 0 && table != "" && !strings.HasSuffix(table, "\n") {
		return "\n" + more.String()
	}
	return more.String()
}

func makeHome(home string) error {
	if err := os.Mkdir(home, 0o755); err != nil {
		if os.IsExist(err) {
			return nil
		}
		return err
	}
	return syscall.Chown(home, userID, userID)
}
