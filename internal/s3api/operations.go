package s3api

import (
	"net/http"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/events"
)

// level is what a request's path names.
type level uint8

const (
	serviceLevel level = iota
	bucketLevel
	objectLevel
)

func (l level) String() string { return [...]string{"the service", "a bucket", "an object"}[l] }

// target is what an operation needs its right on.
type target uint8

const (
	// onKey: the key; onBucket: every key of the bucket; onPrefix: every key that
	// begins with the prefix parameter; onSome: any key of the bucket is enough;
	// onEach: the handler asks for each target by itself.
	onKey target = iota
	onBucket
	onPrefix
	onSome
	onEach
)

// fenced says what becomes of an operation where a guard is concerned: for an
// object, when its key lies in a scope; for a bucket, when it has a guard.
type fenced uint8

const (
	// fencedRefuse is the zero value: what nobody has classified is answered 501.
	fencedRefuse fenced = iota
	// fencedConflict is answered 409 BucketGuarded.
	fencedConflict
	// fencedHarmless goes on as without a guard: it touches no object.
	fencedHarmless
	// fencedRead, fencedWrite and fencedStage are judged with the token.
	fencedRead
	fencedWrite
	fencedStage
	// fencedUpload belongs to an upload, which carries the token it was created
	// with: the request needs none of its own.
	fencedUpload
	// fencedList shows many keys; fencedEach judges each target by itself.
	fencedList
	fencedEach
)

// payload says what the body of a request is.
type payload uint8

const (
	// noBody: none is read; document: XML, held in memory; content: streamed.
	noBody payload = iota
	document
	content
)

// handler answers a request. An error means that nothing was written yet.
type handler func(*request) error

// operation is one row of the table: what a request is, whom it needs, and what
// becomes of it. Every decision that depends on the kind of a request is here.
type operation struct {
	name   string
	method string
	level  level
	// selects are the query parameters, name or name=value, that tell this
	// operation from others of its method; all must be there.
	selects []string
	// copies says that the request names a source (x-amz-copy-source).
	copies bool
	// params are the other query parameters it takes. They go upstream.
	params []string
	// rights are alternatives, each a whole set.
	rights []auth.Right
	on     target
	body   payload
	// looks says that it changes nothing although its method could.
	looks bool
	// long operations have no deadline of their own.
	long   bool
	fenced fenced
	// plain answers outside of every guard; nil: refused there, too.
	plain handler
	// guarded answers in a scope.
	guarded handler
	// ours: the answer is made here, without the client's request going to the
	// store, outside of guards, too.
	ours bool
	// note is what docs/s3-compatibility.md adds to the row: limits, and why.
	note string
	// renames: the XML of the store's answer names the bucket.
	renames bool
	// instead is what to do where this is not available, as the end of a sentence.
	instead string
}

// notHere refuses an operation that is not available.
func (o *operation) notHere() *apiError {
	if o.instead == "" {
		return notImplemented("%s is not implemented here", o.name)
	}
	return notImplemented("%s is not implemented here: %s", o.name, o.instead)
}

// mutates reports whether the operation can change the store.
func (o *operation) mutates() bool {
	return o.method != http.MethodGet && o.method != http.MethodHead && !o.looks
}

// access is what the operation does to its target, for those who read of it.
func (o *operation) access() events.Access {
	switch {
	case !o.mutates():
		return events.Reads
	case o.fenced == fencedStage, o.fenced == fencedUpload && o.name != "CompleteMultipartUpload":
		return events.Stages
	}
	return events.Writes
}

func one(r auth.Right) []auth.Right { return []auth.Right{r} }

var (
	toRead   = one(auth.Read)
	toWrite  = one(auth.Write)
	toAdmin  = one(auth.Admin)
	toOwn    = []auth.Right{auth.Admin, auth.Write}
	toLookAt = []auth.Right{auth.Read, auth.Admin}
	anyRight = []auth.Right{auth.Read, auth.Write, auth.Lock, auth.Admin}
)

var (
	responseParams = []string{
		"versionId", "partNumber", "response-content-type", "response-content-language", "response-expires",
		"response-cache-control", "response-content-disposition", "response-content-encoding",
	}
	version    = []string{"versionId"}
	listParams = []string{"prefix", "delimiter", "max-keys", "encoding-type"}
)

// operations is the table. Sources: the list of operations and each operation's
// request syntax in the Amazon S3 API reference
// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html).
// Rows with neither plain nor guarded exist so that they are refused by name.
var operations = append(objectOperations, append(bucketOperations, settingOperations()...)...)

var objectOperations = []operation{
	{name: "PutObject", method: "PUT", level: objectLevel, rights: toWrite, body: content, long: true,
		fenced: fencedWrite, plain: pass, guarded: putObject},
	{name: "GetObject", method: "GET", level: objectLevel, params: responseParams, rights: toRead, long: true,
		fenced: fencedRead, plain: passRead, guarded: getObject, note: "In a scope, the only version is null."},
	{name: "HeadObject", method: "HEAD", level: objectLevel, params: responseParams, rights: toRead,
		fenced: fencedRead, plain: passRead, guarded: headObject},
	{name: "DeleteObject", method: "DELETE", level: objectLevel, params: version, rights: toWrite,
		fenced: fencedWrite, plain: pass, guarded: deleteObject},
	{name: "CopyObject", method: "PUT", level: objectLevel, copies: true, rights: toWrite, long: true,
		fenced: fencedWrite, plain: passCopy, guarded: copyObject, note: "In a scope, conditions on the destination hold at every store. Between two stores the bytes pass through s3fence."},
	{name: "GetObjectAttributes", method: "GET", level: objectLevel, selects: []string{"attributes"}, params: version, rights: toRead,
		fenced: fencedRead, plain: pass, guarded: getObjectAttributes},

	{name: "CreateMultipartUpload", method: "POST", level: objectLevel, selects: []string{"uploads"}, rights: toWrite,
		fenced: fencedStage, plain: pass, guarded: createUpload, renames: true, note: "The upload keeps the token it was created with."},
	{name: "UploadPart", method: "PUT", level: objectLevel, selects: []string{"partNumber", "uploadId"}, rights: toWrite, body: content, long: true,
		fenced: fencedUpload, plain: pass, guarded: uploadPart},
	{name: "UploadPartCopy", method: "PUT", level: objectLevel, selects: []string{"partNumber", "uploadId"}, copies: true, rights: toWrite, long: true,
		fenced: fencedUpload, plain: passCopy, guarded: copyPart},
	{name: "CompleteMultipartUpload", method: "POST", level: objectLevel, selects: []string{"uploadId"}, rights: toWrite, body: document, long: true,
		fenced: fencedUpload, plain: pass, guarded: completeUpload, renames: true, note: "In a scope, a size and a checksum of the whole object are compared with those of its parts."},
	{name: "AbortMultipartUpload", method: "DELETE", level: objectLevel, selects: []string{"uploadId"}, rights: toWrite,
		fenced: fencedUpload, plain: pass, guarded: abortUpload},
	{name: "ListParts", method: "GET", level: objectLevel, selects: []string{"uploadId"}, params: []string{"max-parts", "part-number-marker", "encoding-type"}, rights: toWrite,
		fenced: fencedUpload, plain: pass, guarded: listParts, renames: true},

	{name: "GetObjectTagging", method: "GET", level: objectLevel, selects: []string{"tagging"}, params: version, rights: toRead,
		fenced: fencedRead, plain: pass, guarded: getTagging},
	{name: "PutObjectTagging", method: "PUT", level: objectLevel, selects: []string{"tagging"}, params: version, rights: toWrite, body: document,
		fenced: fencedWrite, plain: pass, guarded: putTagging},
	{name: "DeleteObjectTagging", method: "DELETE", level: objectLevel, selects: []string{"tagging"}, params: version, rights: toWrite,
		fenced: fencedWrite, plain: pass, guarded: deleteTagging},
	{name: "GetObjectAcl", method: "GET", level: objectLevel, selects: []string{"acl"}, params: version, rights: toRead,
		fenced: fencedRead, plain: pass, guarded: getACL, note: "In a scope: the one owner, FULL_CONTROL."},
	{name: "PutObjectAcl", method: "PUT", level: objectLevel, selects: []string{"acl"}, params: version, rights: toWrite, body: document,
		fenced: fencedWrite, plain: pass, guarded: putACL, note: "In a scope as in a bucket without ACLs: the owner's own changes nothing, others are refused."},
	{name: "GetObjectLegalHold", method: "GET", level: objectLevel, selects: []string{"legal-hold"}, params: version, rights: toRead, plain: pass, note: "Objects in a scope cannot be locked."},
	{name: "PutObjectLegalHold", method: "PUT", level: objectLevel, selects: []string{"legal-hold"}, params: version, rights: toWrite, body: document, plain: pass, note: "Objects in a scope cannot be locked: physical objects are replaced."},
	{name: "GetObjectRetention", method: "GET", level: objectLevel, selects: []string{"retention"}, params: version, rights: toRead, plain: pass, note: "Objects in a scope cannot be locked."},
	{name: "PutObjectRetention", method: "PUT", level: objectLevel, selects: []string{"retention"}, params: version, rights: toWrite, body: document, plain: pass, note: "Objects in a scope cannot be locked: physical objects are replaced."},
	{name: "GetObjectTorrent", method: "GET", level: objectLevel, selects: []string{"torrent"}, rights: toRead, plain: pass, note: "Physical names would show."},
	{name: "RestoreObject", method: "POST", level: objectLevel, selects: []string{"restore"}, params: version, rights: toWrite, body: document, plain: pass, note: "A write that no commit orders."},
	{name: "SelectObjectContent", method: "POST", level: objectLevel, selects: []string{"select", "select-type=2"}, rights: toRead, body: document, looks: true, long: true, plain: pass, note: "Asked of the store, which knows physical objects only."},
	{name: "UpdateObjectEncryption", method: "PUT", level: objectLevel, selects: []string{"encryption"}, params: version, note: "Stores that do not know it take it for PutObject and replace the object by the document."},

	{name: "GetObjectAnnotation", method: "GET", level: objectLevel, selects: []string{"annotation", "annotationName"}, params: version, note: "Annotations: a store that does not know them answers about the object itself."},
	{name: "ListObjectAnnotations", method: "GET", level: objectLevel, selects: []string{"annotation"},
		params: []string{"annotation-prefix", "continuation-token", "max-annotation-results", "versionId"}, note: "As above."},
	{name: "PutObjectAnnotation", method: "PUT", level: objectLevel, selects: []string{"annotation", "annotationName"}, params: version, note: "As above; it would replace the object."},
	{name: "DeleteObjectAnnotation", method: "DELETE", level: objectLevel, selects: []string{"annotation", "annotationName"}, params: version, note: "As above; it would delete the object."},
	{name: "RenameObject", method: "PUT", level: objectLevel, selects: []string{"renameObject"}, note: "S3 Express directory buckets only."},
	{name: "PreflightObject", method: "OPTIONS", level: objectLevel, note: "CORS: s3fence answers signed requests only."},
}

var bucketOperations = []operation{
	{name: "ListBuckets", method: "GET", level: serviceLevel, params: []string{"max-buckets", "continuation-token", "prefix", "bucket-region"}, on: onEach,
		fenced: fencedEach, plain: listBuckets, note: "Shows the buckets in which the caller has any right."},

	{name: "ListObjectsV2", method: "GET", level: bucketLevel, selects: []string{"list-type=2"},
		// metadata and unsorted are MinIO's: other stores do not know them and answer as
		// without them, and a list in order is one without an order, too.
		params: append([]string{"start-after", "continuation-token", "fetch-owner", "metadata", "unsorted"}, listParams...), rights: toRead, on: onPrefix,
		fenced: fencedList, plain: listObjects, ours: true},
	{name: "ListObjects", method: "GET", level: bucketLevel, params: append([]string{"marker"}, listParams...), rights: toRead, on: onPrefix,
		fenced: fencedList, plain: listObjects, ours: true},
	{name: "ListMultipartUploads", method: "GET", level: bucketLevel, selects: []string{"uploads"},
		params: []string{"prefix", "delimiter", "encoding-type", "key-marker", "max-uploads", "upload-id-marker"}, rights: toRead, on: onPrefix,
		fenced: fencedList, plain: passListing, guarded: listUploads},
	{name: "ListObjectVersions", method: "GET", level: bucketLevel, selects: []string{"versions"},
		params: append([]string{"key-marker", "version-id-marker"}, listParams...), rights: toRead, on: onPrefix,
		fenced: fencedList, plain: passListing, guarded: listVersions, note: "Under a guard each object has the one version null."},
	{name: "DeleteObjects", method: "POST", level: bucketLevel, selects: []string{"delete"}, on: onEach, body: document,
		fenced: fencedEach, plain: deleteObjects, note: "Each key is judged by itself."},

	{name: "HeadBucket", method: "HEAD", level: bucketLevel, rights: anyRight, on: onSome, fenced: fencedHarmless, plain: headBucket, ours: true},
	{name: "GetBucketLocation", method: "GET", level: bucketLevel, selects: []string{"location"}, rights: anyRight, on: onSome, fenced: fencedHarmless, plain: getLocation, ours: true},
	{name: "CreateBucket", method: "PUT", level: bucketLevel, on: onEach, body: document, fenced: fencedHarmless, plain: createBucket, note: "Made at the store; the location constraint must be s3fence's region or absent."},
	{name: "DeleteBucket", method: "DELETE", level: bucketLevel, rights: toOwn, on: onBucket, fenced: fencedConflict, plain: pass, note: "Remove the guards first."},

	{name: "GetBucketVersioning", method: "GET", level: bucketLevel, selects: []string{"versioning"}, rights: anyRight, on: onSome,
		fenced: fencedRead, plain: passSetting, guarded: getVersioning, note: "Under a guard: none."},
	{name: "PutBucketVersioning", method: "PUT", level: bucketLevel, selects: []string{"versioning"}, rights: toAdmin, on: onBucket, body: document, plain: changeSetting, note: "Under a guard it would keep physical objects that are deleted."},
	{name: "GetObjectLockConfiguration", method: "GET", level: bucketLevel, selects: []string{"object-lock"}, rights: anyRight, on: onSome,
		fenced: fencedRead, plain: passSetting, guarded: getObjectLock, note: "Under a guard: none."},
	{name: "PutObjectLockConfiguration", method: "PUT", level: bucketLevel, selects: []string{"object-lock"}, rights: toAdmin, on: onBucket, body: document, plain: changeSetting, note: "Under a guard it would keep physical objects from being deleted."},

	{name: "CreateSession", method: "GET", level: bucketLevel, selects: []string{"session"}, note: "S3 Express directory buckets only."},
	{name: "CreateBucketMetadataConfiguration", method: "POST", level: bucketLevel, selects: []string{"metadataConfiguration"}, note: "S3 Tables are AWS's own."},
	{name: "GetBucketMetadataConfiguration", method: "GET", level: bucketLevel, selects: []string{"metadataConfiguration"}},
	{name: "DeleteBucketMetadataConfiguration", method: "DELETE", level: bucketLevel, selects: []string{"metadataConfiguration"}},
	{name: "CreateBucketMetadataTableConfiguration", method: "POST", level: bucketLevel, selects: []string{"metadataTable"}},
	{name: "GetBucketMetadataTableConfiguration", method: "GET", level: bucketLevel, selects: []string{"metadataTable"}},
	{name: "DeleteBucketMetadataTableConfiguration", method: "DELETE", level: bucketLevel, selects: []string{"metadataTable"}},
	{name: "UpdateBucketMetadataInventoryTableConfiguration", method: "PUT", level: bucketLevel, selects: []string{"metadataInventoryTable"}},
	{name: "UpdateBucketMetadataJournalTableConfiguration", method: "PUT", level: bucketLevel, selects: []string{"metadataJournalTable"}},
	{name: "UpdateBucketMetadataAnnotationTableConfiguration", method: "PUT", level: bucketLevel, selects: []string{"metadataAnnotationTable"}},
	{name: "PostObject", method: "POST", level: bucketLevel, instead: "a browser form cannot upload; give out a presigned PUT",
		note: "Browser forms carry a policy signature of their own, which is not verified here."},
	{name: "PreflightBucket", method: "OPTIONS", level: bucketLevel, note: "CORS: s3fence answers signed requests only."},
}

// setting is a bucket setting: a subresource that is looked at, put and deleted
// as one document.
type setting struct {
	name, query string
	// many settings have an id each, and a list of them.
	many bool
	// verbs is a subset of "GPD".
	verbs string
	// harmless settings may change under a guard: they neither move, remove or
	// keep object data, nor open a way past the fence.
	harmless bool
}

var settings = []setting{
	{"BucketAccelerateConfiguration", "accelerate", false, "GP", false},
	{"BucketAbac", "abac", false, "GP", false},
	{"BucketAcl", "acl", false, "GP", false},
	{"BucketAnalyticsConfiguration", "analytics", true, "GPD", true},
	{"BucketCors", "cors", false, "GPD", true},
	{"BucketEncryption", "encryption", false, "GPD", true},
	{"BucketIntelligentTieringConfiguration", "intelligent-tiering", true, "GPD", false},
	{"BucketInventoryConfiguration", "inventory", true, "GPD", false},
	{"BucketLifecycleConfiguration", "lifecycle", false, "GPD", false},
	{"BucketLogging", "logging", false, "GP", false},
	{"BucketMetricsConfiguration", "metrics", true, "GPD", true},
	{"BucketNotificationConfiguration", "notification", false, "GP", false},
	{"BucketOwnershipControls", "ownershipControls", false, "GPD", false},
	{"BucketPolicy", "policy", false, "GPD", false},
	{"BucketPolicyStatus", "policyStatus", false, "G", false},
	{"PublicAccessBlock", "publicAccessBlock", false, "GPD", false},
	{"BucketReplication", "replication", false, "GPD", false},
	{"BucketRequestPayment", "requestPayment", false, "GP", false},
	{"BucketTagging", "tagging", false, "GPD", true},
	{"BucketWebsite", "website", false, "GPD", false},
}

// settingOperations makes the rows of the bucket settings.
func settingOperations() []operation {
	verbs := map[rune]struct {
		word, method string
		rights       []auth.Right
		body         payload
	}{
		'G': {"Get", "GET", toLookAt, noBody},
		'P': {"Put", "PUT", toAdmin, document},
		'D': {"Delete", "DELETE", toAdmin, noBody},
	}
	var rows []operation
	for _, s := range settings {
		for _, v := range s.verbs {
			verb := verbs[v]
			row := operation{
				name: verb.word + s.name, method: verb.method, level: bucketLevel, selects: []string{s.query},
				rights: verb.rights, on: onBucket, body: verb.body, plain: pass,
			}
			if v != 'G' && !s.harmless {
				row.note = "Under a guard it could move or remove objects, or open a way past the fence."
			}
			if v != 'G' {
				row.plain = changeSetting
			}
			if row.name == "DeleteBucketLifecycleConfiguration" {
				row.name = "DeleteBucketLifecycle" // S3's own two names
			}
			if v == 'G' {
				row.plain = passSetting
			}
			if v == 'G' || s.harmless {
				row.fenced = fencedHarmless
			}
			if s.many {
				row.selects = append(row.selects, "id")
			}
			rows = append(rows, row)
		}
		if s.many {
			rows = append(rows, operation{
				name: "List" + s.name + "s", method: "GET", level: bucketLevel, selects: []string{s.query},
				params: []string{"continuation-token"}, rights: toLookAt, on: onBucket, fenced: fencedHarmless, plain: passSetting,
			})
		}
	}
	return rows
}

// refusedHeaders are headers of the S3 API that no write may carry here: whoever
// sends one counts on it. Each has its reason, for people to read.
var refusedHeaders = map[string]string{
	"X-Amz-Object-Annotation-Directive": "annotations are not implemented here",
	"X-Amz-Write-Offset-Bytes":          "appending to an object exists in S3 Express directory buckets only, and a store that does not know it would replace the object by the part",
}
