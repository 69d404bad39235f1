//go:build unix && !linux

package lockrun

// modes are left as the command left them.
type modes struct{}

func (*terminal) remember() {}

func (*terminal) restore() {}
