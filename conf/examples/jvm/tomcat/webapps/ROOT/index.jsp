<%@ page contentType="text/plain" trimDirectiveWhitespaces="true" %>
<%
    Integer before = (Integer) session.getAttribute("visits");
    int visits = before == null ? 1 : before + 1;
    session.setAttribute("visits", visits);
%>visit <%= visits %> of this session, PID <%= ProcessHandle.current().pid() + "\n" %>
