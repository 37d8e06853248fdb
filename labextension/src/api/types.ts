// The schemas of the REST API. Written by labextension/api_types.py: do not edit.

export interface AdminJobDetails {
  id: string;
  state: JobState;
  transition_times: AdminJobStateTransition[];
  user: string;
  admin_meta?: Record<string, string | number>;
  containers?: Record<string, number>;
  waits_for?: string;
  image: JobImage;
  input_file_count: number;
  output_file_count?: number;
  cpu_hours?: number;
  cpu_factor?: number;
  max_memory?: number;
  max_anonymous_memory?: number;
  error?: string;
  logpath?: string;
  labels?: Record<string, string>;
  warnings?: string[];
  parent_id?: string;
  job_input: JobInput;
  outputs?: S3File[];
  admin_error?: string;
  traceback?: string;
  cleaned: boolean;
  htcondor_details?: HTCondorDetails;
  nersc_details?: NERSCDetails;
  jaws_details?: JAWSDetails;
}

export interface AdminJobStateTransition {
  state: JobState;
  time: string;
  trans_id: string;
  notif_sent: boolean;
}

export interface AdminReferenceData {
  registered_by: string;
  registered_on: string;
  file: string;
  crc64nvme?: string;
  id: string;
  unpack: boolean;
  statuses: AdminReferenceDataStatus[];
}

export interface AdminReferenceDataStatus {
  cluster: Cluster;
  state: ReferenceDataState;
  transition_times: RefDataStateTransition[];
  error?: string;
  cleaned: boolean;
  nersc_download_task_id?: string[];
  admin_error?: string;
  traceback?: string;
}

export interface AllowedPath {
  path: string;
  perm: PathPermission;
}

export type CTSRole = "full_admin";

export interface CheckResult {
  containers: PlannedContainer[];
  input_file_count: number;
  input_bytes: number;
  cpu_hours: number;
  warnings: string[];
  image: JobImage;
}

export interface ChecksumRequest {
  files: FileChecksum[];
}

export type ChecksumState = "stored" | "missing" | "mismatch";

export interface ChecksumSummary {
  id: string;
  state: TaskState;
  created: string;
}

export interface ChecksumTask {
  id: string;
  user: string;
  state: TaskState;
  created: string;
  files: FileResult[];
}

export interface ChecksumTasks {
  tasks: ChecksumSummary[];
}

export interface ChecksumsRequested {
  id: string;
}

export interface Claim {
  process: string;
  run: number;
  worker: string;
}

export interface ClaimAnswer {
  granted: boolean;
}

export type Cluster = "perlmutter-jaws" | "lawrencium-jaws" | "kbase" | "local";

export type ComputationState = "waiting" | "done" | "failed";

export interface Container {
  number: number;
  state: JobState;
  transition_times: JobStateTransition[];
  exit_code?: number;
  error?: string;
  cpu_seconds?: number;
  wall_seconds?: number;
  max_memory?: number;
  max_anonymous_memory?: number;
  inputs?: S3FileWithDataID[];
  outputs?: S3File[];
  warnings?: string[];
}

export interface ContainerUpdate {
  time: string | number;
  admin_error?: string;
  traceback?: string;
  exit_code?: number;
  outputs?: S3File[];
}

export interface Containers {
  containers: Container[];
  next?: number;
}

export interface Dependency {
  name: string;
  state: DependencyState;
  needed: boolean;
  since: string;
  error?: string;
}

export type DependencyState = "up" | "down" | "full" | "unknown";

export interface DraftCheck {
  containers: PlannedContainer[];
  input_file_count: number;
  input_bytes: number;
  cpu_hours: number;
  warnings: string[];
  problems: Problem[];
  image?: JobImage;
}

export interface ErrorDetail {
  httpcode: number;
  httpstatus: string;
  time: string;
  message?: string;
  request_id?: string;
  appcode?: number;
  apperror?: string;
  request_validation_detail?: RequestValidationDetail[];
  image_help?: ImageHelp;
}

export interface ErrorEnvelope {
  error: ErrorDetail;
}

export interface ExampleEntry {
  name: string;
  title: string;
  summary: string;
}

export interface Examples {
  examples: ExampleEntry[];
}

export interface ExitCodes {
  exit_codes: (number | null)[];
}

export interface FileChecksum {
  file: string;
  etag?: string;
}

export interface FileResult {
  file: string;
  etag?: string;
  state: ComputationState;
  crc64nvme?: string;
  error?: string;
}

export interface FileSummary {
  objects: number;
  bytes: number;
  missing: number;
  scanned: number;
  complete: boolean;
  next?: string;
}

export interface GrantedRequest {
  url: string;
  headers: Record<string, string>;
}

export interface GrantedRequests {
  requests: GrantedRequest[];
}

export interface HTCondorDetails {
  cluster_id: number[];
}

export interface Health {
  status: string;
}

export interface Image {
  registered_by: string;
  registered_on: string;
  name: string;
  digest: string;
  entrypoint: string[];
  tag: string;
  refdata_id?: string;
  default_refdata_mount_point?: string;
  variables?: string[];
  urls?: string[];
  usage_notes?: string;
}

export interface ImageHelp {
  nearest: string[];
  contact?: string;
  request: string;
  command: string;
}

export interface ImageRegistration {
  from_image?: string;
  urls?: string[];
  usage_notes?: string;
  executable?: string;
  interpreter?: string;
  module?: string;
  variables?: string[];
}

export interface Images {
  data: Image[];
}

export type InputFilesFormat = "comma_separated_list" | "space_separated_list" | "repeat_parameter";

export interface JAWSDetails {
  run_id: string[];
}

export interface Job {
  id: string;
  state: JobState;
  transition_times: JobStateTransition[];
  user: string;
  admin_meta?: Record<string, string | number>;
  containers?: Record<string, number>;
  waits_for?: string;
  image: JobImage;
  input_file_count: number;
  output_file_count?: number;
  cpu_hours?: number;
  cpu_factor?: number;
  max_memory?: number;
  max_anonymous_memory?: number;
  error?: string;
  logpath?: string;
  labels?: Record<string, string>;
  warnings?: string[];
  parent_id?: string;
  job_input: JobInput;
  outputs?: S3File[];
}

export interface JobCount {
  cluster: Cluster;
  state: JobState;
  count: number;
}

export interface JobCounts {
  counts: JobCount[];
}

export interface JobImage {
  registered_by: string;
  registered_on: string;
  name: string;
  digest: string;
  entrypoint: string[];
  tag: string;
  refdata_id?: string;
  default_refdata_mount_point?: string;
  variables?: string[];
}

export interface JobInput {
  cluster: Cluster;
  image: string;
  params: Parameters;
  num_containers: number;
  cpus: number;
  memory: number;
  runtime: string;
  input_roots?: string[];
  output_dir: string;
  input_files: string[] | S3FileWithDataID[];
}

export interface JobInputPreview {
  cluster: Cluster;
  image: string;
  params: Parameters;
  num_containers: number;
  cpus: number;
  memory: number;
  runtime: string;
  input_roots?: string[];
  output_dir: string;
}

export interface JobOutput {
  file: string;
  crc64nvme?: string;
  job_id: string;
  container?: number;
}

export interface JobOutputs {
  outputs: JobOutput[];
  jobs: string[];
  open_inputs: number;
  replaced?: JobOutput[];
  next?: string;
}

export interface JobPreview {
  id: string;
  state: JobState;
  transition_times: JobStateTransition[];
  user: string;
  admin_meta?: Record<string, string | number>;
  containers?: Record<string, number>;
  waits_for?: string;
  image: JobImage;
  input_file_count: number;
  output_file_count?: number;
  cpu_hours?: number;
  cpu_factor?: number;
  max_memory?: number;
  max_anonymous_memory?: number;
  error?: string;
  logpath?: string;
  labels?: Record<string, string>;
  warnings?: string[];
  parent_id?: string;
  job_input: JobInputPreview;
}

export type JobSort = "updated" | "created";

export type JobState = "created" | "download_submitted" | "job_submitting" | "job_submitted" | "upload_submitting" | "upload_submitted" | "complete" | "canceling" | "canceled" | "error_processing_submitting" | "error_processing_submitted" | "error";

export interface JobStateTransition {
  state: JobState;
  time: string;
}

export interface JobStatus {
  id: string;
  state: JobState;
  transition_times: JobStateTransition[];
  user: string;
  admin_meta?: Record<string, string | number>;
  containers?: Record<string, number>;
  waits_for?: string;
}

export interface Jobs {
  jobs: JobPreview[];
  next?: string;
  is_cut?: boolean;
  searched_until?: string;
}

export interface LabelKeys {
  keys: string[];
}

export interface LastLook {
  until: string | number;
}

export type ManifestFileFormat = "files" | "data_ids";

export interface NERSCClientInfo {
  id: string;
  expires_at: string;
  expires_in: string;
}

export interface NERSCDetails {
  download_task_id: string[];
  upload_task_id?: string[];
  log_upload_task_id?: string[];
}

export interface NewLabels {
  labels: Record<string, unknown>;
}

export type NodePlan = Record<string, unknown>;

export interface NodeUpdate {
  time: string | number;
  admin_error?: string;
  traceback?: string;
  exit_code?: number;
  outputs?: S3File[];
  error?: string;
  warnings?: string[];
  cpu_seconds?: number;
  wall_seconds?: number;
  max_memory?: number;
  max_anonymous_memory?: number;
}

export interface ObjectPage {
  objects: StoredObject[];
  folders: string[];
  next?: string;
  left_out: string[];
  scanned?: number;
}

export interface ObjectRequest {
  method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  path: string;
  parameters: Record<string, string>;
  headers: Record<string, unknown>;
}

export interface ObjectRequests {
  requests: ObjectRequest[];
}

export type Order = "desc" | "asc";

export interface Parameter {
  type: ParameterType;
  input_files_format?: InputFilesFormat;
  manifest_file_format?: ManifestFileFormat;
  manifest_file_header?: string;
  container_num_prefix?: string;
  container_num_suffix?: string;
}

export type ParameterType = "input_files" | "manifest_file" | "container_number";

export interface ParameterWithFlag {
  type: ParameterType;
  input_files_format?: InputFilesFormat;
  manifest_file_format?: ManifestFileFormat;
  manifest_file_header?: string;
  container_num_prefix?: string;
  container_num_suffix?: string;
  flag?: string;
}

export interface Parameters {
  input_mount_point: string;
  output_mount_point: string;
  refdata_mount_point?: string;
  declobber: boolean;
  args?: (string | ParameterWithFlag)[];
  environment?: Record<string, unknown>;
}

export type PathPermission = "write";

export interface PlannedContainer {
  number: number;
  argv: string[];
  environment: Record<string, string>;
  files: S3FileWithDataID[];
  manifest?: string;
}

export interface Problem {
  loc: (string | number)[];
  appcode?: number;
  message: string;
  hint?: string;
}

export interface QueuedJob {
  job_id: string;
  state: JobState;
  ahead?: number;
  waits_for?: string;
}

export interface Readiness {
  status: ReadyStatus;
  dependencies: Dependency[];
  warnings: string[];
}

export type ReadyStatus = "ready" | "degraded" | "not ready";

export interface Reason {
  reason?: string;
  exit_code?: number;
  containers: number[];
  inputs: string[];
  input_count: number;
  stdout?: string;
  stderr?: string;
  hint: string;
  fix?: ResubmissionOutput;
}

export interface RefData {
  data: ReferenceData[];
}

export interface RefDataStateTransition {
  state: ReferenceDataState;
  time: string;
}

export interface RefdataUpdate {
  admin_error?: string;
  traceback?: string;
}

export interface ReferenceData {
  registered_by: string;
  registered_on: string;
  file: string;
  crc64nvme?: string;
  id: string;
  unpack: boolean;
  statuses: ReferenceDataStatus[];
}

export type ReferenceDataState = "created" | "download_submitted" | "complete" | "error";

export interface ReferenceDataStatus {
  cluster: Cluster;
  state: ReferenceDataState;
  transition_times: RefDataStateTransition[];
  error?: string;
}

export interface RequestValidationDetail {
  type: string;
  loc: (string | number)[];
  msg: string;
  input?: unknown;
  ctx?: Record<string, unknown>;
}

export interface ResubmissionInput {
  failed: boolean;
  containers?: number[];
  memory?: string | number;
  runtime?: string;
  output_dir?: string;
  refresh_inputs: boolean;
}

export interface ResubmissionOutput {
  failed: boolean;
  containers?: number[];
  memory?: number;
  runtime?: string;
  output_dir?: string;
  refresh_inputs: boolean;
}

export interface ResubmissionCheck {
  containers: PlannedContainer[];
  input_file_count: number;
  input_bytes: number;
  cpu_hours: number;
  warnings: string[];
  image: JobImage;
  output_dir: string;
}

export interface Root {
  service_name: string;
  version: string;
  git_hash: string;
  server_time: string;
  notes: string;
  instance?: string;
}

export interface Roots {
  roots: AllowedPath[];
}

export interface S3File {
  file: string;
  crc64nvme?: string;
}

export interface S3FileWithDataID {
  file: string;
  crc64nvme?: string;
  data_id?: string;
}

export interface Site {
  cluster: Cluster;
  nodes?: number;
  cpus_per_node: number;
  memory_per_node_gb: number;
  max_runtime_min: number;
  notes: string[];
  active: boolean;
  available: boolean;
  unavailable_reason?: string;
}

export interface SiteLoad {
  cluster: Cluster;
  waiting: number;
  running: number;
  cpus_free?: number;
  ahead?: number;
  jobs: QueuedJob[];
}

export interface Sites {
  sites: Site[];
}

export interface StoredObject {
  path: string;
  size: number;
  etag: string;
  content_type: string;
  modified: string;
  checksum: ChecksumState;
  crc64nvme?: string;
}

export interface SubJob {
  id: string;
  sub_id: number;
  state: JobState;
  transition_times: JobStateTransition[];
  exit_code?: number;
  outputs?: S3File[];
  admin_error?: string;
  traceback?: string;
}

export interface SubJobs {
  subjobs: SubJob[];
}

export interface Submission {
  cluster: Cluster;
  image: string;
  params: Parameters;
  num_containers: number;
  cpus: number;
  memory: string | number;
  runtime: string;
  input_roots?: string[];
  output_dir: string;
  input_files: string[] | S3FileWithDataID[];
  labels?: Record<string, unknown>;
}

export interface Submitted {
  job_id: string;
}

export type TaskState = "running" | "ended" | "canceled";

export interface UnsentNotifications {
  jobs: number;
  transitions: number;
}

export interface UpdateAdminMeta {
  set_fields?: Record<string, string | number | boolean>;
  unset_keys?: string[];
}

export interface WhoAmI {
  user: string;
  roles: CTSRole[];
  allowed_paths: AllowedPath[];
  instance: string;
}

export interface Why {
  state: JobState;
  reasons: Reason[];
  fix?: ResubmissionOutput;
}
