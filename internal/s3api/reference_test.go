package s3api

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/upstream"
)

// referenceOperation is an operation as the SDK sends it.
type referenceOperation struct {
	name, method    string
	level           level
	selects         []string // parameters that are always there
	params, headers []string
}

var (
	referenceSerializer = regexp.MustCompile(`(?s)func \(m \*awsRestxml_serializeOp(\w+)\) HandleSerialize\(.*?\n}\n`)
	referenceBindings   = regexp.MustCompile(`(?s)func awsRestxml_serializeOpHttpBindings(\w+)Input\(.*?\n}\n`)
	referenceURI        = regexp.MustCompile(`SplitURI\("([^"]*)"\)`)
	referenceMethod     = regexp.MustCompile(`request\.Method = "(\w+)"`)
	referenceQuery      = regexp.MustCompile(`encoder\.(?:Set|Add)Query\("([^"]+)"\)`)
	referenceHeader     = regexp.MustCompile(`locationName := "([^"]+)"`)
)

// referenceOperations reads the S3 API out of the AWS SDK for Go, whose
// serializers AWS generates from the model that the S3 API reference is made of.
func referenceOperations(t *testing.T) []referenceOperation {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/s3").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "serializers.go"))
	if err != nil {
		t.Fatal(err)
	}
	bindings := map[string]string{}
	for _, m := range referenceBindings.FindAllStringSubmatch(string(source), -1) {
		bindings[m[1]] = m[0]
	}
	all := func(re *regexp.Regexp, text string) (names []string) {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		return names
	}
	var ops []referenceOperation
	for _, m := range referenceSerializer.FindAllStringSubmatch(string(source), -1) {
		uri, method := referenceURI.FindStringSubmatch(m[0]), referenceMethod.FindStringSubmatch(m[0])
		if uri == nil || method == nil {
			t.Fatalf("the SDK's serializer of %s has no URI or method", m[1])
		}
		path, query, _ := strings.Cut(uri[1], "?")
		o := referenceOperation{name: m[1], method: method[1], level: bucketLevel}
		switch {
		case strings.HasPrefix(m[1], "List") && strings.HasSuffix(m[1], "Buckets"):
			o.level = serviceLevel
		case strings.Contains(path, "{Key+}"):
			o.level = objectLevel
		}
		for _, p := range strings.Split(query, "&") {
			if p != "" && !strings.HasPrefix(p, "x-id=") {
				o.selects = append(o.selects, p)
			}
		}
		o.params, o.headers = all(referenceQuery, bindings[m[1]]), all(referenceHeader, bindings[m[1]])
		ops = append(ops, o)
	}
	if len(ops) < 110 {
		t.Fatalf("only %d operations were found in the SDK: its serializers look different now", len(ops))
	}
	return ops
}

// otherHosts are operations that go to hosts which are no S3 endpoint, so that
// nobody who talks to one can send them.
var otherHosts = map[string]string{
	"ListDirectoryBuckets":   "s3express-control.REGION.amazonaws.com",
	"WriteGetObjectResponse": "ROUTE.s3-object-lambda.REGION.amazonaws.com",
}

// olderNames are rows of the table that the SDK has no operation for: browsers
// send them, not SDKs.
var olderNames = []string{"PostObject", "PreflightObject", "PreflightBucket"}

// furtherParams are parameters that the reference does not list and clients send.
var furtherParams = map[string][]string{
	"ListParts":     {"encoding-type"},        // minio-go and the aws CLI
	"ListObjectsV2": {"metadata", "unsorted"}, // minio-go, of MinIO
}

// The table knows every operation, parameter and header of the S3 API; one that
// AWS adds shows here when the SDK is updated.
func TestTableIsTheReference(t *testing.T) {
	t.Parallel()
	rows := map[string]*operation{}
	for i := range operations {
		rows[operations[i].name] = &operations[i]
	}
	var table strings.Builder
	refused := map[string]bool{}
	inReference := map[string]bool{}
	for _, ref := range referenceOperations(t) {
		if otherHosts[ref.name] != "" {
			continue
		}
		inReference[ref.name] = true
		o := rows[ref.name]
		if o == nil {
			t.Errorf("%s (%s %v) has no row", ref.name, ref.method, ref.selects)
			continue
		}
		if o.method != ref.method || o.level != ref.level {
			t.Errorf("%s is %s on %s, want %s on %s", o.name, o.method, o.level, ref.method, ref.level)
		}
		for _, s := range ref.selects {
			if !slices.Contains(o.selects, s) {
				t.Errorf("%s is not told by ?%s", o.name, s)
			}
		}
		if o.plain == nil {
			continue
		}
		for _, p := range ref.params {
			if !slices.Contains(o.selects, p) && !slices.Contains(o.params, p) {
				t.Errorf("%s does not take ?%s", o.name, p)
			}
		}
		for _, p := range append(slices.Clone(o.selects), o.params...) {
			if !slices.Contains(ref.selects, p) && !slices.Contains(ref.params, p) && !slices.Contains(furtherParams[o.name], p) {
				t.Errorf("%s takes ?%s, which the reference does not have", o.name, p)
			}
		}
		for _, h := range ref.headers {
			name := http.CanonicalHeaderKey(h)
			taken := upstream.Forwarded(name) || o.mutates() && strings.HasPrefix(name, "X-Amz-") && known(name) || name == "Content-Length"
			if reason := refusedHeaders[name]; reason != "" {
				refused[name] = true
				if taken {
					t.Errorf("%s is taken and stands in refusedHeaders: %s", name, reason)
				}
				continue
			}
			if !taken {
				t.Errorf("%s: the header %s is neither taken nor refused with a reason", o.name, name)
			}
		}
	}
	for _, ref := range referenceOperations(t) {
		o := rows[ref.name]
		if o == nil {
			continue
		}
		is := "refused"
		if o.plain != nil {
			is = "answered"
		}
		params := slices.DeleteFunc(slices.Clone(ref.params), func(p string) bool { return slices.Contains(o.selects, p) })
		slices.Sort(params)
		var headers []string
		for _, h := range ref.headers {
			headers = append(headers, http.CanonicalHeaderKey(h))
		}
		slices.Sort(headers)
		table.WriteString(strings.Join([]string{o.name, is, requestLine(o), strings.Join(params, " "), strings.Join(slices.Compact(headers), " ")}, "\t") + "\n")
	}
	// The end-to-end tests take their requests from it.
	golden(t, "reference.txt", table.String())
	for name := range refusedHeaders {
		if !refused[name] {
			t.Errorf("refusedHeaders has %s, which no operation has", name)
		}
	}
	for name := range rows {
		if !inReference[name] && !slices.Contains(olderNames, name) {
			t.Errorf("%s is no operation of S3", name)
		}
	}
}
