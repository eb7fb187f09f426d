//go:build !unix

package stages

import "os/exec"

// shell is a command for the shell.
func shell(command string) *exec.Cmd { return exec.Command("cmd", "/C", command) }

// kill ends a command.
func kill(cmd *exec.Cmd) { cmd.Process.Kill() }
