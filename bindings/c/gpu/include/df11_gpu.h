// DF11 units and compressed frames, decoded on NVIDIA GPUs: for engines, with their own contexts,
// streams and memory. Linux.
//
// How it is used. At load, bring parts to the device (df11_gpu_unit_upload), or say where they are
// (df11_gpu_unit_adopt); make a batch of those that are decoded together. Then, as often as is
// wanted, df11_gpu_batch_enqueue launches kernels on a stream, and does nothing else: it allocates
// nothing, copies nothing and waits for nothing, so the stream may be captured. Errors of the data
// are found by kernels, and read when asked for.
//
// The driver. No CUDA is needed to build or link this: the driver's library is opened when the
// first device is. Handles are passed as void *: CUcontext, CUstream (NULL is the legacy stream);
// addresses as uint64_t: CUdeviceptr. Every function makes its context current while it runs, and
// puts back what was current before.
//
// The library holds the functions of the driver that it needs under their own names (cuInit and so
// on); they forward to the driver. Where a program's own calls of the driver reach these, they do
// what the driver does, but codes newer than CUDA 11.4 come as 999. Whoever links the static
// library tells the linker to leave out what nobody uses: -Wl,--gc-sections.
//
// Handles of this library are made by functions that give them, and freed by those whose names end
// in _close, which take NULL, too; in any order: what is needed stays. Functions may be called from
// any thread; a handle must not be closed while another thread uses it.
//
// Results. Functions return DF11_GPU_OK (0) or what kind of failure it was; a df11_gpu_error tells
// more, to whoever passes one. Nothing crosses as an exception.
//
// SPDX-License-Identifier: MIT OR Apache-2.0


#ifndef DF11_GPU_H
#define DF11_GPU_H

// Made by bindings/c/gpu/headers.sh from the sources of the library; change those.

#include <stddef.h>
#include <stdint.h>

// How a function ended.
typedef enum df11_gpu_status {
  // All went well.
  DF11_GPU_OK = 0,
  // There is no CUDA driver, or no device of this number, or one that is too old.
  DF11_GPU_NO_DEVICE = 1,
  // The driver refused; `code` says what it returned.
  DF11_GPU_DRIVER = 2,
  // A unit or frame is not valid: its parts contradict the format, a kernel found a block that
  // does, or a checksum is wrong.
  DF11_GPU_INVALID_DATA = 3,
  // A frame is not compressed: copy its elements.
  DF11_GPU_RAW_FRAME = 4,
  // Elements would begin at an address that is no multiple of their size.
  DF11_GPU_ALIGNMENT = 5,
  // Memory, a unit or a frame belongs to another device or context.
  DF11_GPU_OTHER_DEVICE = 6,
  // The stream is captured, and what was asked for waits.
  DF11_GPU_CAPTURING = 7,
  // The caller passed something that cannot be meant: NULL, a wrong length or number.
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

// What went wrong, in memory of the caller. Pass NULL where nobody wants to know.
//
// Written by every function that takes one, also when all went well. The text is UTF-8, ends with
// a zero byte, and is cut where it would be longer.
typedef struct df11_gpu_error {
  // The same as the function returned.
  enum df11_gpu_status status;
  // The driver's code, from cuda.h; 0 where it was not the driver.
  int32_t code;
  // The item of the batch, and its block, where a kernel or a checksum found something wrong, or
  // an item is not aligned.
  size_t item;
  // See `item`.
  size_t block;
  // What was to be done, what is wrong, what to do about it.
  char message[480];
} df11_gpu_error;

// Bytes of the host, which are only read. `data` may be NULL if `len` is 0.
typedef struct df11_gpu_bytes {
  // The first byte.
  const uint8_t *data;
  // How many there are.
  size_t len;
} df11_gpu_bytes;

// The parts of a unit in memory of the host: DF11.md, section 2.
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

// The parts of a unit in memory of the device, each at any address: DF11.md, section 2.
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
  // How many prefix tables there are, the code lengths among them.
  size_t tables;
  // Bytes of code.
  size_t code_bytes;
  // Weights.
  size_t elements;
} df11_gpu_raw_unit;

// Something to decode: a unit or a frame, the other being NULL.
typedef struct df11_gpu_item {
  // A unit, decoded to two little-endian bytes for each weight; or NULL.
  const struct df11_gpu_unit *unit;
  // A frame, decoded to its elements, little-endian; or NULL.
  const struct df11_gpu_frame *frame;
  // Where its elements go, in bytes from the address that df11_gpu_batch_enqueue is given.
  uint64_t offset;
} df11_gpu_item;

// What kernels found wrong with an item.
typedef struct df11_gpu_fault {
  // 0 if nothing is wrong, otherwise 1.
  int32_t is_wrong;
  // The first block that is not valid; of codec dictionary, the chunk of 4096 elements.
  size_t block;
  // The clause that is broken, as in "D-8.6" (DF11.md), "R-5.4" (RANS.md) or "V-3.3"
  // (DICTIONARY.md); ends with a zero byte.
  char clause[12];
} df11_gpu_fault;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens a device by its number, in its primary context.
//
// `gpu` must point to memory for a handle. Pointers to results may be NULL nowhere, `error`
// anywhere.
enum df11_gpu_status df11_gpu_open(uint32_t number, struct df11_gpu **gpu, struct df11_gpu_error *error);

// Opens a device in the caller's context.
//
// As for df11_gpu_open. `context` must be a CUcontext that stays until every handle that was made
// with the device is closed.
enum df11_gpu_status df11_gpu_open_context(void *context, struct df11_gpu **gpu, struct df11_gpu_error *error);

// Opens the first of several emulated devices: kernels are run instruction by instruction on the
// processor, for tests. From then on this process has no other driver; df11_gpu_open opens the
// others.
//
// As for df11_gpu_open.
enum df11_gpu_status df11_gpu_open_emulated(size_t devices, struct df11_gpu **gpu, struct df11_gpu_error *error);

// Closes a device. What was made with it stays as it is.
//
// `gpu` must be NULL or a handle that is not used after this.
void df11_gpu_close(struct df11_gpu *gpu);

// The context of a device, a CUcontext; NULL for NULL.
//
// `gpu` must be NULL or a handle.
void *df11_gpu_context(const struct df11_gpu *gpu);

// Checks a unit and uploads it. It is there when this returns, for every stream.
//
// `gpu` must be a handle; `parts` must point to parts whose bytes can be read; `unit` must point
// to memory for a handle.
enum df11_gpu_status df11_gpu_unit_upload(const struct df11_gpu *gpu,
                                          const struct df11_gpu_parts *parts,
                                          struct df11_gpu_unit **unit,
                                          struct df11_gpu_error *error);

// Takes a unit whose parts are in the memory of the device already, wherever they are. The prefix
// tables are downloaded and checked; nothing else is copied.
//
// As for df11_gpu_unit_upload. Until the unit, and every batch that it is in, is closed: at each
// address are as many bytes as `parts` says, in memory that kernels of this context can read, and
// nobody writes them. They are there now: copies of them are done, not only enqueued. They need
// not be a valid unit; weights are then unspecified, and that is all.
enum df11_gpu_status df11_gpu_unit_adopt(const struct df11_gpu *gpu,
                                         const struct df11_gpu_raw_unit *parts,
                                         struct df11_gpu_unit **unit,
                                         struct df11_gpu_error *error);

// Closes a unit. Batches that it is in stay as they are.
//
// `unit` must be NULL or a handle that is not used after this.
void df11_gpu_unit_close(struct df11_gpu_unit *unit);

// Checks a frame, the checksums of its blocks included, and uploads it. It is there when this
// returns, for every stream.
//
// `gpu` must be a handle, `bytes` those of a frame that can be read; `frame` must point to memory
// for a handle.
enum df11_gpu_status df11_gpu_frame_upload(const struct df11_gpu *gpu,
                                           struct df11_gpu_bytes bytes,
                                           struct df11_gpu_frame **frame,
                                           struct df11_gpu_error *error);

// Takes a frame whose bytes are in the memory of the device already, wherever they are. The host's
// copy is checked as df11_gpu_frame_upload does it, and says where everything is; it is not needed
// after this.
//
// As for df11_gpu_frame_upload. Until the frame, and every batch that it is in, is closed: at the
// address are the same bytes, in memory that kernels of this context can read, and nobody writes
// them. They are there now: copies are done, not only enqueued.
enum df11_gpu_status df11_gpu_frame_adopt(const struct df11_gpu *gpu,
                                          struct df11_gpu_bytes bytes,
                                          uint64_t address,
                                          struct df11_gpu_frame **frame,
                                          struct df11_gpu_error *error);

// Closes a frame. Batches that it is in stay as they are.
//
// `frame` must be NULL or a handle that is not used after this.
void df11_gpu_frame_close(struct df11_gpu_frame *frame);

// Prepares a batch: everything that takes long is done here, once. The units and frames may be
// closed after this.
//
// `gpu` must be a handle, `items` point to as many items, of open units and frames; `batch` must
// point to memory for a handle.
enum df11_gpu_status df11_gpu_batch_new(const struct df11_gpu *gpu,
                                        const struct df11_gpu_item *items,
                                        size_t number,
                                        struct df11_gpu_batch **batch,
                                        struct df11_gpu_error *error);

// Closes a batch.
//
// `batch` must be NULL or a handle that is not used after this; no stream, and no graph that is
// still launched, decodes it.
void df11_gpu_batch_close(struct df11_gpu_batch *batch);

// The bytes from the address that df11_gpu_batch_enqueue is given to the end of all outputs; 0 for
// NULL.
//
// `batch` must be NULL or a handle.
uint64_t df11_gpu_batch_output_bytes(const struct df11_gpu_batch *batch);

// Decodes all items on a stream, to their offsets from `outputs`. Launches and returns: it
// allocates nothing, copies nothing and waits for nothing, so the stream may be captured. Elements
// must begin at multiples of their size; that is checked.
//
// `batch` must be a handle, `stream` a CUstream of its context, or NULL for the legacy stream.
// From `outputs` on, kernels of the context must be able to write every item at its offset, and
// nobody else may use what they write, until the stream is done. The batch, and what was adopted
// for it, must stay until then; with a captured stream, as long as the graph is launched.
enum df11_gpu_status df11_gpu_batch_enqueue(const struct df11_gpu_batch *batch,
                                            void *stream,
                                            uint64_t outputs,
                                            struct df11_gpu_error *error);

// What kernels have found wrong with each item since this, or df11_gpu_batch_check, was called
// last, on whatever stream. Waits for the stream.
//
// As for df11_gpu_batch_enqueue; on no other stream is the batch being decoded. `faults` must
// point to memory for as many faults, one for each item.
enum df11_gpu_status df11_gpu_batch_statuses(const struct df11_gpu_batch *batch,
                                             void *stream,
                                             struct df11_gpu_fault *faults,
                                             size_t number,
                                             struct df11_gpu_error *error);

// The same, and DF11_GPU_INVALID_DATA if something is wrong with an item: `error` names the first,
// its block and the clause.
//
// As for df11_gpu_batch_statuses.
enum df11_gpu_status df11_gpu_batch_check(const struct df11_gpu_batch *batch,
                                          void *stream,
                                          struct df11_gpu_error *error);

// Compares the checksums of coded bytes of frames of codec rANS (FRAME.md, F-5.4) with what was
// decoded: downloads all elements, and computes them on the processor. Kernels do not compare
// them. Waits for the stream.
//
// As for df11_gpu_batch_enqueue, with the same `outputs`.
enum df11_gpu_status df11_gpu_batch_compare_checksums(const struct df11_gpu_batch *batch,
                                                      void *stream,
                                                      uint64_t outputs,
                                                      struct df11_gpu_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DF11_GPU_H */
