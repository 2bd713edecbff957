// DF11 units and compressed frames, decoded on NVIDIA GPUs: for engines, with their own contexts,
// streams and memory. Linux.
//
// Usage. At load, upload parts to the device (df11_gpu_unit_upload), or adopt those that are there
// already (df11_gpu_unit_adopt). Make a batch of those that are decoded together. After that,
// df11_gpu_batch_enqueue launches kernels on a stream, any number of times. It allocates nothing,
// copies nothing and waits for nothing, so the stream may be captured. Kernels record errors in the
// data, and the caller reads them when it needs to.
//
// The driver. No CUDA is needed to build or link this: the driver's library is opened with the
// first device. Handles are passed as void *: CUcontext, CUstream (NULL is the legacy stream).
// Addresses are passed as uint64_t: CUdeviceptr. Every function makes its context current while it
// runs, and then restores the previous one.
//
// The library holds the functions of the driver that it needs under their own names (cuInit and so
// on), which forward to the driver. If a program's own driver calls reach these functions, they do
// what the driver does, except that codes newer than CUDA 11.4 are returned as 999. A program that
// links the static library should remove unused functions with -Wl,--gc-sections.
//
// Handles. Functions that make a handle give it to the caller, who frees it with the function whose
// name ends in _close. These functions accept NULL, and may be called in any order: objects that
// are still needed stay. Functions may be called from any thread. A handle must not be closed while
// another thread uses it.
//
// Results. Functions return DF11_GPU_OK (0) or the kind of failure. If the caller passes a
// df11_gpu_error, it describes the failure. No exception crosses the boundary.
//
// SPDX-License-Identifier: MIT OR Apache-2.0


#ifndef DF11_GPU_H
#define DF11_GPU_H

// Made by bindings/c/gpu/headers.sh from the sources of the library; change those.

#include <stddef.h>
#include <stdint.h>

// The status of a finished call.
typedef enum df11_gpu_status {
  // The call succeeded.
  DF11_GPU_OK = 0,
  // There is no CUDA driver, no device of this number, or the device is too old.
  DF11_GPU_NO_DEVICE = 1,
  // The driver refused a call. `code` is the code that it returned.
  DF11_GPU_DRIVER = 2,
  // A unit or frame is invalid: its parts contradict the format, a kernel found an invalid
  // block, or a checksum is wrong.
  DF11_GPU_INVALID_DATA = 3,
  // A frame is not compressed: copy its elements.
  DF11_GPU_RAW_FRAME = 4,
  // Elements would begin at an address that is not a multiple of their size.
  DF11_GPU_ALIGNMENT = 5,
  // Memory, a unit or a frame belongs to another device or context.
  DF11_GPU_OTHER_DEVICE = 6,
  // The stream is captured, and the call would have to wait.
  DF11_GPU_CAPTURING = 7,
  // The call is wrong: NULL, a wrong length, or a number out of range.
  DF11_GPU_INVALID_INPUT = 8,
  // A defect of the library; please report the message.
  DF11_GPU_INTERNAL = 9,
} df11_gpu_status;

// A device with the kernels loaded, in one context.
typedef struct df11_gpu df11_gpu;

// Units and frames that are decoded together.
typedef struct df11_gpu_batch df11_gpu_batch;

// A frame of codec rANS or dictionary on a device.
typedef struct df11_gpu_frame df11_gpu_frame;

// A unit on a device.
typedef struct df11_gpu_unit df11_gpu_unit;

// The description of a failure, in the caller's memory. Pass NULL if you do not need it.
//
// Every function that takes one writes it, also when it succeeds. The text is UTF-8 and ends with
// a zero byte. A text that is too long is cut.
typedef struct df11_gpu_error {
  // The status that the function returned.
  enum df11_gpu_status status;
  // The driver's code, from cuda.h; 0 if the driver did not fail.
  int32_t code;
  // The item of the batch where a kernel or a checksum found a fault, or where an item is not
  // aligned.
  size_t item;
  // The block of that item.
  size_t block;
  // The action that failed, the fault, and the remedy.
  char message[480];
} df11_gpu_error;

// Bytes of the host that are only read. `data` may be NULL if `len` is 0.
typedef struct df11_gpu_bytes {
  // The first byte.
  const uint8_t *data;
  // The number of bytes.
  size_t len;
} df11_gpu_bytes;

// The parts of a unit in the host's memory: DF11.md, section 2.
typedef struct df11_gpu_parts {
  // The prefix tables and the code lengths.
  struct df11_gpu_bytes luts;
  // The code.
  struct df11_gpu_bytes encoded_exponent;
  // The signs and mantissas.
  struct df11_gpu_bytes sign_mantissa;
  // The output positions.
  struct df11_gpu_bytes output_positions;
  // The gaps.
  struct df11_gpu_bytes gaps;
  // The split positions.
  struct df11_gpu_bytes split_positions;
} df11_gpu_parts;

// The parts of a unit in the device's memory, each at any address: DF11.md, section 2.
typedef struct df11_gpu_raw_unit {
  // The prefix tables and the code lengths: 256 bytes for each of `tables`.
  uint64_t luts;
  // The code: `code_bytes`.
  uint64_t codes;
  // The signs and mantissas: `elements` bytes.
  uint64_t sign_mantissa;
  // The output positions: 4 bytes for each block of 4096 bytes of code, and any that follow.
  uint64_t output_positions;
  // The gaps: 320 bytes for each block of 4096 bytes of code.
  uint64_t gaps;
  // The number of prefix tables, including the code lengths.
  size_t tables;
  // The number of bytes of code.
  size_t code_bytes;
  // The number of weights.
  size_t elements;
} df11_gpu_raw_unit;

// An item to decode: a unit or a frame. The other pointer is NULL.
typedef struct df11_gpu_item {
  // A unit, decoded to two little-endian bytes for each weight; or NULL.
  const struct df11_gpu_unit *unit;
  // A frame, decoded to its elements, little-endian; or NULL.
  const struct df11_gpu_frame *frame;
  // The offset of its elements in bytes, from the address that is passed to
  // df11_gpu_batch_enqueue.
  uint64_t offset;
} df11_gpu_item;

// A fault that kernels found in an item.
typedef struct df11_gpu_fault {
  // 1 if there is a fault, otherwise 0.
  int32_t is_wrong;
  // The first invalid block or, for codec dictionary, chunk of 4096 elements.
  size_t block;
  // The broken clause, as in "D-8.6" (DF11.md), "R-5.4" (RANS.md) or "V-3.3" (DICTIONARY.md). It
  // ends with a zero byte.
  char clause[12];
} df11_gpu_fault;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens a device by its number, in its primary context.
//
// `gpu` must be valid for writes of a handle, or NULL, which is refused. `error` must be valid for
// writes of a `df11_gpu_error`, or NULL.
enum df11_gpu_status df11_gpu_open(uint32_t number, struct df11_gpu **gpu, struct df11_gpu_error *error);

// Opens a device in the caller's context.
//
// The requirements of df11_gpu_open hold. `context` must be a CUcontext that stays until every
// handle that was made with the device is closed.
enum df11_gpu_status df11_gpu_open_context(void *context, struct df11_gpu **gpu, struct df11_gpu_error *error);

// Opens the first of several emulated devices, which run kernels instruction by instruction on the
// CPU, for tests. After this call the process has no other driver. df11_gpu_open opens the other
// devices.
//
// The requirements are those of df11_gpu_open.
enum df11_gpu_status df11_gpu_open_emulated(size_t devices, struct df11_gpu **gpu, struct df11_gpu_error *error);

// Closes a device. Handles that were made with it stay valid.
//
// `gpu` must be NULL or a handle that is not used after this.
void df11_gpu_close(struct df11_gpu *gpu);

// Returns the context of a device, a CUcontext; NULL for NULL.
//
// `gpu` must be NULL or an open handle.
void *df11_gpu_context(const struct df11_gpu *gpu);

// Checks a unit and uploads it. When this returns, every stream can use it.
//
// `gpu` must be an open handle, or NULL. `parts` must be valid for reads of a `df11_gpu_parts`, or
// NULL, and the `data` of each part for reads of `len` bytes, or NULL. `unit` must be valid for
// writes of a handle. `error` must be NULL, or valid for writes of a `df11_gpu_error`.
enum df11_gpu_status df11_gpu_unit_upload(const struct df11_gpu *gpu,
                                          const struct df11_gpu_parts *parts,
                                          struct df11_gpu_unit **unit,
                                          struct df11_gpu_error *error);

// Adopts a unit whose parts are in the device's memory already, at any address. The prefix tables
// are downloaded and checked. Nothing else is copied.
//
// The requirements of df11_gpu_unit_upload hold for `gpu`, `parts`, `unit` and `error`. Until the
// unit, and every batch that contains it, is closed, each address must hold the number of bytes
// that `parts` says, in memory that kernels of this context can read, and no one may write them.
// They must be there now: copies must be done, not only enqueued. They need not form a valid unit.
// If they do not, the weights are unspecified, but nothing else goes wrong.
enum df11_gpu_status df11_gpu_unit_adopt(const struct df11_gpu *gpu,
                                         const struct df11_gpu_raw_unit *parts,
                                         struct df11_gpu_unit **unit,
                                         struct df11_gpu_error *error);

// Closes a unit. Batches that contain it stay valid.
//
// `unit` must be NULL or a handle that is not used after this.
void df11_gpu_unit_close(struct df11_gpu_unit *unit);

// Checks a frame, including the checksums of its blocks, and uploads it. When this returns, every
// stream can use it.
//
// `gpu` must be an open handle, or NULL. The `data` of `bytes` must be valid for reads of `len`
// bytes, or NULL. `frame` must be valid for writes of a handle. `error` must be NULL, or valid for
// writes of a `df11_gpu_error`.
enum df11_gpu_status df11_gpu_frame_upload(const struct df11_gpu *gpu,
                                           struct df11_gpu_bytes bytes,
                                           struct df11_gpu_frame **frame,
                                           struct df11_gpu_error *error);

// Adopts a frame whose bytes are in the device's memory already, at any address. The host's copy
// is checked as df11_gpu_frame_upload does, and tells where everything is. It is not needed after
// this call.
//
// The requirements of df11_gpu_frame_upload hold. Until the frame, and every batch that contains
// it, is closed, the same bytes must be at the address, in memory that kernels of this context can
// read, and no one may write them. They must be there now: copies must be done, not only enqueued.
enum df11_gpu_status df11_gpu_frame_adopt(const struct df11_gpu *gpu,
                                          struct df11_gpu_bytes bytes,
                                          uint64_t address,
                                          struct df11_gpu_frame **frame,
                                          struct df11_gpu_error *error);

// Closes a frame. Batches that contain it stay valid.
//
// `frame` must be NULL or a handle that is not used after this.
void df11_gpu_frame_close(struct df11_gpu_frame *frame);

// Prepares a batch. This one call does everything that takes long. The units and frames may be
// closed after it.
//
// `gpu` must be an open handle, or NULL. `items` must be valid for reads of this many items, whose
// units and frames are open. `batch` must be valid for writes of a handle. `error` must be NULL,
// or valid for writes of a `df11_gpu_error`.
enum df11_gpu_status df11_gpu_batch_new(const struct df11_gpu *gpu,
                                        const struct df11_gpu_item *items,
                                        size_t number,
                                        struct df11_gpu_batch **batch,
                                        struct df11_gpu_error *error);

// Closes a batch.
//
// `batch` must be NULL, or a handle that is not used after this. No stream, and no graph that is
// still launched, may decode it.
void df11_gpu_batch_close(struct df11_gpu_batch *batch);

// Returns the number of bytes from the address that is passed to df11_gpu_batch_enqueue to the end
// of all outputs; 0 for NULL.
//
// `batch` must be NULL or an open handle.
uint64_t df11_gpu_batch_output_bytes(const struct df11_gpu_batch *batch);

// Decodes all items on a stream, to their offsets from `outputs`. The call launches kernels and
// returns: it allocates nothing, copies nothing and waits for nothing, so the stream may be
// captured. Elements must begin at multiples of their size, which is checked.
//
// `batch` must be an open handle, or NULL. `stream` must be a CUstream of its context, or NULL for
// the legacy stream. From `outputs` on, kernels of the context must be able to write every item at
// its offset, and no one else may use this memory, until the stream is done. The batch, and the
// memory that was adopted for it, must stay until then. If the stream is captured, they must stay
// for as long as the graph is launched. `error` must be NULL, or valid for writes of a
// `df11_gpu_error`.
enum df11_gpu_status df11_gpu_batch_enqueue(const struct df11_gpu_batch *batch,
                                            void *stream,
                                            uint64_t outputs,
                                            struct df11_gpu_error *error);

// Reads what kernels have found wrong with each item, on any stream, since the last call of this
// or of df11_gpu_batch_check. Waits for the stream.
//
// The requirements of df11_gpu_batch_enqueue hold, and no other stream may be decoding the batch.
// `faults` must be valid for writes of one fault for each item.
enum df11_gpu_status df11_gpu_batch_statuses(const struct df11_gpu_batch *batch,
                                             void *stream,
                                             struct df11_gpu_fault *faults,
                                             size_t number,
                                             struct df11_gpu_error *error);

// Reads the faults as df11_gpu_batch_statuses does. Returns DF11_GPU_INVALID_DATA if an item has
// one: `error` names the first item, its block and the clause.
//
// The requirements are those of df11_gpu_batch_statuses, without `faults`.
enum df11_gpu_status df11_gpu_batch_check(const struct df11_gpu_batch *batch,
                                          void *stream,
                                          struct df11_gpu_error *error);

// Compares the checksums of the coded bytes of frames of codec rANS (FRAME.md, F-5.4) with what
// was decoded. Downloads all elements, and computes the checksums on the CPU, since kernels do not
// compare them. Waits for the stream.
//
// The requirements are those of df11_gpu_batch_enqueue, with the same `outputs`.
enum df11_gpu_status df11_gpu_batch_compare_checksums(const struct df11_gpu_batch *batch,
                                                      void *stream,
                                                      uint64_t outputs,
                                                      struct df11_gpu_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DF11_GPU_H */
