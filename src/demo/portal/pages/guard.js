// Refuses what no person did: a click or an input made by a script is not trusted, and without the proof that a
// trusted click leaves behind the server refuses the form.
(function () {
  var typed = new WeakSet();
  document.addEventListener('input', function (event) {
    if (event.isTrusted) typed.add(event.target);
  }, true);
  document.addEventListener('click', function (event) {
    var button = event.target.closest ? event.target.closest('button[data-guard]') : null;
    if (!button) return;
    var fields = Array.prototype.slice.call(button.form.querySelectorAll('input[data-typed]'));
    var byHand = event.isTrusted && fields.every(function (field) { return typed.has(field); });
    if (!byHand) {
      event.preventDefault();
      document.querySelector('[data-blocked]').hidden = false;
      return;
    }
    button.form.elements.proof.value = button.form.elements.token.value.split('').reverse().join('');
  }, true);
  if (!localStorage.getItem('hanbit.device')) {
    localStorage.setItem('hanbit.device', 'WEB-' + Math.random().toString(36).slice(2, 10).toUpperCase());
  }
})();
