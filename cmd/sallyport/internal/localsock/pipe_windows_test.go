package localsock

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// detached is what howDetached says of a process that StartDetached has started.
const detached = "has a console of its own"

// howDetached counts the processes that share our console.
func howDetached() string {
	kernel := windows.NewLazySystemDLL("kernel32.dll")
	var processes [10]uint32
	n, _, err := kernel.NewProc("GetConsoleProcessList").Call(uintptr(unsafe.Pointer(&processes)), uintptr(len(processes)))
	if n != 1 {
		return fmt.Sprintf("%d processes have the console: %v", n, err)
	}
	return detached
}

// user returns our own security identifier.
func user(t *testing.T) *windows.SID {
	t.Helper()
	sid, err := currentUser()
	if err != nil {
		t.Fatal(err)
	}
	return sid
}

// The access list names this user and nobody else.
func TestAccessList(t *testing.T) {
	conn, _ := connect(t)
	handle := windows.Handle(conn.(pipeConn).Conn.(interface{ Fd() uintptr }).Fd())
	got, err := windows.GetSecurityInfo(handle, windows.SE_KERNEL_OBJECT,
		windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	// Windows says FA, all rights to a file, for what GA becomes on a pipe.
	sid := user(t).String()
	want := []string{"O:" + sid + "D:P(A;;FA;;;" + sid + ")", "O:" + sid + "D:P(A;;GA;;;" + sid + ")"}
	if s := got.String(); s != want[0] && s != want[1] {
		t.Errorf("got %s, want %s", s, want[0])
	}
	t.Log(got)
}

// A pipe that somebody else has made under our name is not used, and gets nothing.
func TestDialSendsNothingToAnotherUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), fmt.Sprintf("%d-theirs.sock", os.Getpid()))
	const administrators = "S-1-5-32-544" // an administrator may make what belongs to all of them
	name := pipeName(path, user(t))
	l, err := winio.ListenPipe(name, &winio.PipeConfig{
		SecurityDescriptor: "O:" + administrators + "D:(A;;GA;;;WD)", MessageMode: true,
	})
	if errors.Is(err, windows.ERROR_INVALID_OWNER) {
		t.Skip("this needs an administrator: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	takeFirstInstance(name)
	read := make(chan int, 1)
	go func() { // ends with the connection
		conn, err := l.Accept()
		if err != nil {
			return
		}
		n, _ := conn.Read(make([]byte, 100))
		conn.Close()
		read <- n
	}()
	conn, err := Dial(t.Context(), path)
	if e, ok := errors.AsType[*PeerError](err); !ok || *e != (PeerError{UID: -1, SID: administrators}) || conn != nil || Gone(err) {
		t.Fatalf("got %v, want a *PeerError of %s", err, administrators)
	}
	if n := <-read; n > 0 {
		t.Errorf("the other user got %d bytes", n)
	}
	if own, err := Listen(path); err == nil {
		own.Close()
		t.Error("the name was taken twice")
	}
}

func TestPipeName(t *testing.T) {
	name := pipeName(`C:\Users\x\shared\0123-456.sock`, user(t))
	if !strings.HasPrefix(name, `\\.\pipe\sallyport-`) || !strings.HasSuffix(name, "-0123-456") {
		t.Error(name)
	}
	system, err := windows.StringToSid("S-1-5-18")
	if err != nil {
		t.Fatal(err)
	}
	if pipeName("0123-456.sock", system) == name {
		t.Error("two users have one name")
	}
}

// assign makes this process one of a job, in which its children then start.
func assign(t *testing.T, flags uint32) {
	t.Helper()
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { windows.CloseHandle(job) })
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	info.BasicLimitInformation.LimitFlags = flags
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		t.Fatal(err)
	}
	if err := windows.AssignProcessToJobObject(job, windows.CurrentProcess()); err != nil {
		t.Skip("this process cannot enter a job: ", err)
	}
}

// A job that lets nobody out does not keep a process from being started.
func TestDetachedFromAJob(t *testing.T) {
	assign(t, 0)
	TestDetachedListens(t)
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_BREAKAWAY_FROM_JOB}
	err := child.Run()
	t.Log("a child that asks to leave the job: ", err)
	if err != nil && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		t.Error(err)
	}
}
