package objectstore_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/objectstore"
)

// childDir tells a copy of this binary to be the process that is killed.
const childDir = "OBJECTSTORE_CHILD_DIR"

// childMain writes without end and prints each acknowledged write. Every
// writer overwrites a few keys of its own, so what was acknowledged last is
// known; the sizes take both ways through the store.
func childMain(dir string) {
	t := &childT{}
	store, err := objectstore.Open(t.Context(), dir, objectstore.Options{AccessKey: accessKey, SecretKey: secretKey, MinPartBytes: -1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	store.CreateBucket(t.Context(), bucket)
	server := httptest.NewServer(store.Handler())
	w := &world{url: server.URL, aws: awsClient(server.URL, secretKey)}
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	var wg sync.WaitGroup
	for writer := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("w%d/k%d", writer, i%5)
				size := []int{0, 10, 4096, 70 << 10, 300 << 10}[rand.IntN(5)]
				content := pattern(size, byte(rand.Uint32()))
				say("begin %s %s", key, plainMD5(content))
				switch rand.IntN(4) {
				case 0:
					id := w.beginUpload(t, key)
					half := len(content) / 2
					parts := map[int32]string{2: w.uploadPart(t, key, id, 2, content[half:]), 1: w.uploadPart(t, key, id, 1, content[:half])}
					if _, err := w.complete(t, key, id, parts); err != nil {
						panic(err)
					}
				default:
					w.put(t, key, content)
				}
				say("done %s %s", key, plainMD5(content))
			}
		})
	}
	wg.Wait()
}

// childT is the testing.TB of a process that has none.
type childT struct{ testing.TB }

func (*childT) Helper()                   {}
func (*childT) Errorf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (*childT) FailNow()                  { panic("failed") }
func (*childT) Context() context.Context  { return context.Background() }

func plainMD5(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// TestKilledProcessLosesNothing kills a writing process at random moments. An
// acknowledged write must be there, whole, unless a later write of its key was
// under way: then that one may be there, as whole.
func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	rounds := 15
	if testing.Short() {
		rounds = 4
	}
	dir := t.TempDir()
	acknowledged := map[string]string{}
	total := 0
	for round := range rounds {
		allowed := killRound(t, dir, acknowledged)
		w := openWorldOnce(t, dir)
		for key, sums := range allowed {
			got := plainMD5(w.fetch(t, key))
			require.Contains(t, sums, got, "round %d, key %s", round, key)
			acknowledged[key] = got
			total++
		}
		w.close(t)
	}
	t.Logf("%d rounds, %d keys checked", rounds, total)
	require.Positive(t, total)
}

// killRound returns, for each key, the contents that may stand there.
func killRound(t *testing.T, dir string, acknowledged map[string]string) map[string][]string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	var faults bytes.Buffer
	child.Stderr = &faults
	pipe, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewScanner(pipe)
	begun := map[string]string{}
	var kill *time.Timer
	defer func() {
		if kill != nil {
			kill.Stop()
		}
	}()
	// After some acknowledged writes, at a moment that none of them decides.
	writes, delay := 1+rand.IntN(40), time.Duration(rand.IntN(5000))*time.Microsecond
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 3 || len(f[2]) != 32 {
			continue // the last line may be cut
		}
		switch f[0] {
		case "begin":
			begun[f[1]] = f[2]
		case "done":
			acknowledged[f[1]] = f[2]
			delete(begun, f[1])
			if writes--; writes == 0 {
				kill = time.AfterFunc(delay, func() { child.Process.Signal(syscall.SIGKILL) })
			}
		}
	}
	child.Wait()
	require.Equal(t, syscall.SIGKILL, child.ProcessState.Sys().(syscall.WaitStatus).Signal(), faults.String())
	allowed := map[string][]string{}
	for key, sum := range acknowledged {
		allowed[key] = []string{sum}
		if later, ok := begun[key]; ok {
			allowed[key] = append(allowed[key], later)
		}
	}
	return allowed
}

// onceWorld is a world that ends before the test does.
type onceWorld struct {
	store  *objectstore.Store
	server *httptest.Server
	aws    *s3.Client
}

func openWorldOnce(t *testing.T, dir string) *onceWorld {
	t.Helper()
	store, err := objectstore.Open(t.Context(), dir, objectstore.Options{AccessKey: accessKey, SecretKey: secretKey})
	require.NoError(t, err)
	server := httptest.NewServer(store.Handler())
	return &onceWorld{store, server, awsClient(server.URL, secretKey)}
}

func (w *onceWorld) close(t *testing.T) {
	t.Helper()
	w.server.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	require.NoError(t, w.store.Close())
}

func (w *onceWorld) fetch(t *testing.T, key string) []byte {
	t.Helper()
	out, err := w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key})
	require.NoError(t, err, key)
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	require.NoError(t, err, key)
	return content
}
