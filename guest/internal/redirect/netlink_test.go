package redirect

import (
	"bytes"
	"encoding/binary"
	"syscall"
	"testing"
)

func TestAttributesAreAlignedAndNestedOnesAreAsLongAsTheirContent(t *testing.T) {
	var b batch
	b.nest(4, func() {
		b.text(1, "nat")
		b.attribute(2, []byte{7})
	})
	native := binary.NativeEndian.AppendUint16
	want := native(native(nil, 4+8+8), 4|nested)
	want = append(native(native(want, 8), 1), 'n', 'a', 't', 0)
	want = append(native(native(want, 5), 2), 7, 0, 0, 0)
	if !bytes.Equal(b.bytes, want) {
		t.Errorf("%x is not %x", b.bytes, want)
	}
}

func TestMessagesFollowEachOtherByTheirLengths(t *testing.T) {
	var b batch
	first := b.message(1, 0, []byte{1, 2, 3, 4}, nil)
	second := b.message(2, syscall.NLM_F_ACK, []byte{5, 6, 7, 8}, func(b *batch) { b.number(1, 9) })
	length := binary.NativeEndian.Uint32(b.bytes)
	rest := b.bytes[length:]
	if first == second || length != 20 || binary.NativeEndian.Uint32(rest) != uint32(len(rest)) {
		t.Errorf("%d, %d: %x", first, second, b.bytes)
	}
	if flags := binary.NativeEndian.Uint16(rest[6:]); flags != syscall.NLM_F_REQUEST|syscall.NLM_F_ACK {
		t.Errorf("flags %#x", flags)
	}
}

// answerTo is what the kernel says of one message.
func answerTo(number uint32, errno syscall.Errno) []byte {
	answer := make([]byte, 36)
	binary.NativeEndian.PutUint32(answer, 36)
	binary.NativeEndian.PutUint16(answer[4:], syscall.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(answer[8:], number)
	binary.NativeEndian.PutUint32(answer[16:], uint32(-int32(errno)))
	return answer
}

func TestAnswersAreJudged(t *testing.T) {
	both := append(answerTo(1, syscall.EOPNOTSUPP), answerTo(2, 0)...)
	cases := []struct {
		name   string
		answer []byte
		all    bool
		found  bool
		err    error
	}{
		{"mine", answerTo(2, 0), true, true, nil},
		{"mine failed", answerTo(2, syscall.EPERM), false, true, syscall.EPERM},
		{"another failed, and that matters", both, true, false, syscall.EOPNOTSUPP},
		{"another failed", both, false, true, nil},
		{"another", answerTo(1, 0), true, false, nil},
		{"nothing", nil, true, false, nil},
		{"cut off", answerTo(2, 0)[:20], true, false, syscall.EBADMSG},
		{"of no length", make([]byte, 40), true, false, syscall.EBADMSG},
	}
	for _, c := range cases {
		if found, err := judge(c.answer, 2, c.all); found != c.found || err != c.err {
			t.Errorf("%s: %v, %v", c.name, found, err)
		}
	}
}
